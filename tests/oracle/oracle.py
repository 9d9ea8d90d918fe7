"""What the oracle tests share: random GPT-2 and LLaMA models, token files, gradminer, and PyTorch's own answers."""

import contextlib
import json
import subprocess
from unittest import mock

import numpy as np
import torch
import transformers
from transformers.models.llama import modeling_llama

transformers.utils.logging.disable_progress_bar()


def gpt2(layers, heads, head_size, vocabulary, positions, inner=None, epsilon=1e-5):
    return transformers.GPT2Config(
        n_layer=layers, n_head=heads, n_embd=heads * head_size, n_positions=positions, vocab_size=vocabulary,
        n_inner=inner, layer_norm_epsilon=epsilon, bos_token_id=None, eos_token_id=None)


def llama(layers, heads, kv_heads, head_size, vocabulary, positions, inner, tied=False, epsilon=1e-6, theta=10000.0,
          factor=None):
    """factor: of linear scaling."""
    return transformers.LlamaConfig(
        num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
        hidden_size=heads * head_size, vocab_size=vocabulary, max_position_embeddings=positions,
        intermediate_size=inner, tie_word_embeddings=tied, rms_norm_eps=epsilon, rope_theta=theta,
        rope_scaling=factor and {"type": "linear", "factor": factor}, bos_token_id=None, eos_token_id=None)


def random_model(config, seed):
    """fp32 weights away from the initial symmetries: no zero bias, no norm weight of 1, outputs far from uniform."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            if name.endswith("bias"):
                parameter.copy_(0.1 * noise)
            elif ".ln_" in name or "norm" in name:
                parameter.copy_(1 + 0.1 * noise)
            else:
                parameter.copy_(0.5 * noise / parameter.shape[-1] ** 0.5)
    return model


def use_our_frequencies(model, folder, driver):
    """LLaMA's RoPE turns by the inverse frequencies that our own reading of folder/config.json gives."""
    if model.config.model_type != "llama":
        return
    config = json.loads(subprocess.run([driver, "config", folder], stdout=subprocess.PIPE, check=True).stdout)
    frequencies = torch.tensor(config["rope_inverse_frequencies"], dtype=torch.float32)
    for layer in model.model.layers:
        layer.self_attn.rotary_emb.inv_freq = frequencies.clone()
        layer.self_attn.rotary_emb.scaling_factor = 1.0  # linear scaling is in the frequencies


def random_tokens(batch, context, vocabulary, seed):
    """batch * context + 1 tokens; row b is tokens b*context to b*context + context inclusive."""
    return np.random.default_rng(seed).integers(0, vocabulary, batch * context + 1).astype("<u2")


def rows(tokens, batch, context):
    """Inputs and targets, each (batch, context)."""
    tokens = torch.from_numpy(tokens.astype(np.int64))
    return tokens[:-1].view(batch, context), tokens[1:].view(batch, context)


def _norm(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def _rotation(self, x, position_ids):
    angles = position_ids[..., None].float() * self.inv_freq.float()  # rounded to fp32 in docs/numerics.md too
    angles = torch.cat((angles, angles), dim=-1).to(x.dtype)
    return angles.cos(), angles.sin()


def _softmax(x, dim, dtype=None):
    return torch.softmax(x, dim)


@contextlib.contextmanager
def in_the_models_own_precision():
    """transformers' LLaMA computes norms, softmax and cosines in fp32 even where the model is in float64."""
    with mock.patch.object(modeling_llama.LlamaRMSNorm, "forward", _norm), \
         mock.patch.object(modeling_llama.LlamaRotaryEmbedding, "forward", _rotation), \
         mock.patch.object(torch.nn.functional, "softmax", _softmax):
        yield


def loss_of(model, inputs, targets):
    with in_the_models_own_precision():
        # Not model(inputs).logits, which LLaMA rounds to fp32.
        logits = model.lm_head(model.base_model(inputs, use_cache=False).last_hidden_state)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def gradients_of(model, tokens, batch, context, dtype):
    """Loss and gradients (name -> float64 tensor) as PyTorch computes them in dtype."""
    model = model.to(dtype)
    model.zero_grad()
    loss = loss_of(model, *rows(tokens, batch, context))
    loss.backward()
    gradients = {name: parameter.grad.to(torch.float64) for name, parameter in model.named_parameters()}
    return loss.item(), gradients


def gradminer_compute(binary, folder, token_file, batch, context, gradients=None, profile="exact-fp32"):
    command = [binary, "compute", "--model", str(folder), "--tokens", str(token_file), "--batch", str(batch),
               "--context", str(context), "--profile", profile, "--json"]
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
