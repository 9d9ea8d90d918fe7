"""A checkpoint that kernels_files writes loads in transformers, with the same weights and the same loss.

usage: checkpoint_test.py GRADMINER ORACLE_DRIVER
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import safetensors.torch
import torch
import transformers

import oracle

BATCH, CONTEXT = 5, 43
# name: (a small config, one for new weights, its embedding's name)
FAMILIES = {
    "gpt2": (oracle.gpt2(3, 3, 17, 301, 45, inner=131), oracle.gpt2(2, 4, 16, 256, 43), "transformer.wte.weight"),
    "llama": (oracle.llama(3, 6, 2, 10, 301, 45, inner=131, theta=5e5, factor=3.0),
              oracle.llama(2, 4, 4, 16, 256, 43, inner=100, tied=True), "model.embed_tokens.weight"),
}


def same_loss(gradminer, model, folder, tokens):
    """To 6 digits."""
    tokens.tofile(folder / "tokens.bin")
    loss, _ = oracle.gradminer_compute(gradminer, folder, folder / "tokens.bin", BATCH, CONTEXT)
    expected = oracle.loss_of(model.to(torch.float64), *oracle.rows(tokens, BATCH, CONTEXT)).item()
    print(f"loss {loss:.8f}, transformers {expected:.8f}")
    assert abs(loss - expected) <= 1e-6 * expected, "the losses differ"


def same_frequencies(model, folder):
    """Ours, with linear scaling in them, are transformers' own within two roundings."""
    if model.config.model_type != "llama":
        return
    ours = torch.tensor(json.loads((folder / "config.json").read_text())["rope_inverse_frequencies"])
    rotary = model.model.layers[0].self_attn.rotary_emb
    theirs = rotary.inv_freq / rotary.scaling_factor
    assert ((ours - theirs).abs() <= 2.5e-7 * theirs).all(), f"{ours}\n{theirs}"


def same_words(gradminer, model, folder):
    """`gradminer sample` at temperature 0 is the greedy choice, also beyond the context."""
    length = 50
    done = subprocess.run([gradminer, "sample", "--model", folder, "--length", str(length), "--temperature", "0"],
                          stdout=subprocess.PIPE, check=True, text=True)
    tokens = [ord("\n")]  # what it begins with
    with torch.no_grad():
        while len(tokens) <= length:
            logits = model(torch.tensor([tokens[-model.config.max_position_embeddings:]])).logits
            tokens.append(logits[0, -1].argmax().item())
    assert [int(token) for token in done.stdout.split()] == tokens[1:], f"{done.stdout}\n{tokens[1:]}"


def check(gradminer, driver, base, family):
    config, new_config, embedding = FAMILIES[family]
    tokens = oracle.random_tokens(BATCH, CONTEXT, config.vocab_size, seed=4)

    # Written by transformers, read and written by us, read by transformers: the same weights.
    original = oracle.random_model(config, seed=3)
    original.save_pretrained(base / "theirs", safe_serialization=True)
    subprocess.run([driver, "copy", base / "theirs", base / "ours"], check=True)
    copy, report = transformers.AutoModelForCausalLM.from_pretrained(base / "ours", output_loading_info=True)
    assert type(copy) is type(original), type(copy)
    assert not any(report.values()), report
    for name, parameter in original.named_parameters():
        assert torch.equal(parameter, copy.get_parameter(name)), f"{name} changed on the way"
    same_frequencies(original, base / "ours")
    same_loss(gradminer, copy.eval(), base / "ours", tokens)
    same_words(gradminer, copy, base / "ours")

    # Without the head, without the prefix of the names.
    if config.tie_word_embeddings:
        original.base_model.save_pretrained(base / "bare", safe_serialization=True)
        same_loss(gradminer, original.eval(), base / "bare", tokens)
        original.to(torch.float32)

    # Stored in shards and in half precision.
    for dtype in (torch.float16, torch.bfloat16):
        folder = base / str(dtype)
        original.to(dtype).save_pretrained(folder, safe_serialization=True, max_shard_size="100KB")
        assert (folder / "model.safetensors.index.json").exists()
        rounded = transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32)
        same_loss(gradminer, rounded.eval(), folder, tokens)
        original.to(torch.float32)

    # New, with our initial weights.
    (base / "new").mkdir()
    (base / "new" / "config.json").write_text(json.dumps(new_config.to_dict()))
    subprocess.run([driver, "initialise", base / "new", "7"], check=True)
    fresh = transformers.AutoModelForCausalLM.from_pretrained(base / "new")
    assert abs(safetensors.torch.load_file(base / "new" / "model.safetensors")[embedding].std() - 0.02) < 5e-4
    same_loss(gradminer, fresh.eval(), base / "new", oracle.random_tokens(BATCH, CONTEXT, 256, seed=5))


def main(gradminer, driver):
    for family in FAMILIES:
        print(family)
        with tempfile.TemporaryDirectory() as base:
            check(gradminer, driver, pathlib.Path(base), family)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
