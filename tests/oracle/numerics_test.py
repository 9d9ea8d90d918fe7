"""Loss and gradients of `gradminer compute` in each profile against numerics_numpy.py, to the bit.

usage: numerics_test.py GRADMINER ORACLE_DRIVER [SHAPE...]
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import safetensors.numpy
import torch

import numerics_numpy
import oracle

PROFILES = ["exact-fp32", "exact-int8", "exact-int8-head"]

# name: (config, batch, context), and what multiplies the random matrices where that is not 1: a softmax saturates, exp
# leaves its range. A block is the fewest sequences that hold 1,024 tokens.
SHAPES = {
    "gpt2_odd": (oracle.gpt2(2, 3, 5, 77, 45, inner=67), 5, 43),
    "gpt2_one_token": (oracle.gpt2(1, 1, 7, 19, 8, inner=9), 1, 1),
    "gpt2_context_of_one": (oracle.gpt2(1, 2, 3, 19, 8, inner=11), 1030, 1),
    "gpt2_three_blocks": (oracle.gpt2(1, 2, 3, 35, 100, inner=13, epsilon=1e-6), 25, 100),
    "gpt2_long_vectors": (oracle.gpt2(1, 1, 6, 4201, 16, inner=2100), 2, 13),
    "gpt2_long_sequence": (oracle.gpt2(1, 1, 2, 17, 2052, inner=5), 1, 2052),
    "gpt2_wild": (oracle.gpt2(2, 2, 4, 33, 16, inner=21), 8, 11, 40.0),
    "llama_odd": (oracle.llama(2, 6, 2, 6, 77, 45, inner=41, epsilon=1e-5), 5, 43),
    "llama_odd_tied": (oracle.llama(2, 3, 3, 10, 97, 45, inner=71, tied=True, factor=2.5), 3, 37),
    "llama_one_token": (oracle.llama(1, 4, 1, 2, 19, 8, inner=9), 1, 1),
    "llama_context_of_one": (oracle.llama(1, 2, 1, 4, 19, 8, inner=11, tied=True), 1030, 1),
    "llama_three_blocks": (oracle.llama(1, 4, 2, 2, 35, 130, inner=13, theta=500000.0), 17, 129),
    "llama_long_vectors": (oracle.llama(1, 1, 1, 6, 4201, 16, inner=2100), 2, 13),
    "llama_wild": (oracle.llama(2, 4, 2, 8, 33, 16, inner=21), 8, 11, 150.0),
}


def different(name, ours, theirs):
    """A line for a tensor that has other bits; None where there is none."""
    ours, theirs = np.atleast_1d(ours), np.atleast_1d(theirs)
    assert ours.shape == theirs.shape, f"{name}: shape {ours.shape}, not {theirs.shape}"
    assert ours.dtype == theirs.dtype == np.float32, f"{name}: {ours.dtype} and {theirs.dtype}"
    places = np.argwhere(ours.view(np.uint32) != theirs.view(np.uint32))
    if len(places) == 0:
        return None
    at = tuple(places[0])
    return (f"{name}: {len(places)} of {ours.size} elements, the first at {list(at)}: "
            f"{float(ours[at]).hex()}, not {float(theirs[at]).hex()}")


def differences(gradminer, driver, config, batch, context, factor=1.0):
    """{profile: [line, ...]}"""
    tokens = oracle.random_tokens(batch, context, config.vocab_size, seed=2)
    rows = np.stack([tokens[b * context : (b + 1) * context + 1] for b in range(batch)])
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model = oracle.random_model(config, seed=1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(factor if parameter.dim() > 1 else 1.0)
        model.save_pretrained(folder / "model", safe_serialization=True)
        tokens.tofile(folder / "tokens.bin")
        weights = safetensors.numpy.load_file(folder / "model" / "model.safetensors")
        keys = json.loads(subprocess.check_output([driver, "config", folder / "model"]))
        for profile in PROFILES:
            loss, _ = oracle.gradminer_compute(gradminer, folder / "model", folder / "tokens.bin", batch, context,
                                               folder / "gradients.safetensors", profile)
            ours = safetensors.numpy.load_file(folder / "gradients.safetensors")
            true_loss, true = numerics_numpy.gradient(keys, profile, weights, rows)
            assert sorted(ours) == sorted(true), f"gradients of {sorted(ours)}, not of {sorted(true)}"
            lines = [different("loss", np.float32(loss), true_loss)]
            lines += [different(name, ours[name], true[name]) for name in true]
            found[profile] = [line for line in lines if line]
    return found


def main(gradminer, driver, *names):
    failures = 0
    for shape in names or SHAPES:
        for profile, lines in differences(gradminer, driver, *SHAPES[shape]).items():
            print(f"{shape}, {profile}: {'FAILED' if lines else 'equal'}", *lines, sep="\n    ", flush=True)
            failures += len(lines)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
