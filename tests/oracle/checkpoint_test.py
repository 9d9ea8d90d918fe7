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


def same_loss(gradminer, model, folder, tokens):
    """To 6 digits."""
    tokens.tofile(folder / "tokens.bin")
    loss, _ = oracle.gradminer_compute(gradminer, folder, folder / "tokens.bin", BATCH, CONTEXT)
    expected = oracle.loss_of(model.to(torch.float64), tokens, BATCH, CONTEXT).item()
    print(f"loss {loss:.8f}, transformers {expected:.8f}")
    assert abs(loss - expected) <= 1e-6 * expected, "the losses differ"


def main(gradminer, driver):
    with tempfile.TemporaryDirectory() as base:
        base = pathlib.Path(base)

        # Written by transformers, read and written by us, read by transformers: the same weights.
        config = oracle.config(3, 3, 51, 45, 77, inner=131)
        original = oracle.random_model(config, seed=3)
        original.save_pretrained(base / "theirs", safe_serialization=True)
        subprocess.run([driver, "copy", base / "theirs", base / "ours"], check=True)
        copy, report = transformers.GPT2LMHeadModel.from_pretrained(base / "ours", output_loading_info=True)
        assert not any(report.values()), report
        for name, parameter in original.named_parameters():
            assert torch.equal(parameter, copy.get_parameter(name)), f"{name} changed on the way"
        tokens = oracle.random_tokens(BATCH, CONTEXT, config.vocab_size, seed=4)
        same_loss(gradminer, copy.eval(), base / "ours", tokens)

        # Stored in two shards and in bfloat16.
        original.to(torch.bfloat16).save_pretrained(base / "sharded", safe_serialization=True, max_shard_size="100KB")
        assert (base / "sharded" / "model.safetensors.index.json").exists()
        rounded = transformers.GPT2LMHeadModel.from_pretrained(base / "sharded", torch_dtype=torch.float32)
        same_loss(gradminer, rounded.eval(), base / "sharded", tokens)

        # New, with our initial weights.
        (base / "new").mkdir()
        (base / "new" / "config.json").write_text(json.dumps(oracle.config(2, 4, 64, 43, 256).to_dict()))
        subprocess.run([driver, "initialise", base / "new", "7"], check=True)
        fresh = transformers.GPT2LMHeadModel.from_pretrained(base / "new")
        assert abs(safetensors.torch.load_file(base / "new" / "model.safetensors")["transformer.wte.weight"].std() - 0.02
                   ) < 5e-4
        same_loss(gradminer, fresh.eval(), base / "new", oracle.random_tokens(BATCH, CONTEXT, 256, seed=5))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
