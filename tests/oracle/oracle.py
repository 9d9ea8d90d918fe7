"""What the oracle tests share: random GPT-2 models, token files, gradminer, and PyTorch's own answers."""

import json
import subprocess

import numpy as np
import torch
import transformers


def config(layers, heads, channels, positions, vocabulary, inner=None, epsilon=1e-5):
    return transformers.GPT2Config(
        n_layer=layers, n_head=heads, n_embd=channels, n_positions=positions, vocab_size=vocabulary, n_inner=inner,
        layer_norm_epsilon=epsilon, bos_token_id=None, eos_token_id=None)


def random_model(model_config, seed):
    """fp32 weights away from the initial symmetries: no zero bias, no norm weight of 1, outputs far from uniform."""
    torch.manual_seed(seed)
    model = transformers.GPT2LMHeadModel(model_config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            if name.endswith("bias"):
                parameter.copy_(0.1 * noise)
            elif ".ln_" in name:
                parameter.copy_(1 + 0.1 * noise)
            else:
                parameter.copy_(0.5 * noise / parameter.shape[-1] ** 0.5)
    return model


def random_tokens(batch, context, vocabulary, seed):
    """batch * context + 1 tokens; row b is tokens b*context to b*context + context inclusive."""
    return np.random.default_rng(seed).integers(0, vocabulary, batch * context + 1).astype("<u2")


def rows(tokens, batch, context):
    """Inputs and targets, each (batch, context)."""
    tokens = torch.from_numpy(tokens.astype(np.int64))
    return tokens[:-1].view(batch, context), tokens[1:].view(batch, context)


def loss_of(model, tokens, batch, context):
    inputs, targets = rows(tokens, batch, context)
    logits = model(inputs).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def gradients_of(model, tokens, batch, context, dtype):
    """Loss and gradients (name -> float64 tensor) as PyTorch computes them in dtype."""
    model = model.to(dtype)
    model.zero_grad()
    loss = loss_of(model, tokens, batch, context)
    loss.backward()
    gradients = {name: parameter.grad.to(torch.float64) for name, parameter in model.named_parameters()}
    return loss.item(), gradients


def gradminer_compute(binary, folder, token_file, batch, context, gradients=None):
    command = [binary, "compute", "--model", str(folder), "--tokens", str(token_file), "--batch", str(batch),
               "--context", str(context), "--json"]
    if gradients:
        command += ["--gradients", str(gradients)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}\nended with {done.returncode}: {done.stderr}")
    result = json.loads(done.stdout)
    loss = float.fromhex(result["loss_hex"])
    assert loss == np.float32(result["loss"]), f"loss {result['loss']} and loss_hex {result['loss_hex']} differ"
    return loss, result


def relative_error(value, reference):
    """Relative L2 distance of two float64 tensors."""
    norm = reference.norm().item()
    distance = (value - reference).norm().item()
    return distance / norm if norm > 0 else distance
