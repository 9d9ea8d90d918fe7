"""Fifty steps of the kernels' AdamW against torch.optim.AdamW in float64, with the numbers of a step as a unit
carries them (evaluated in binary64, rounded once to fp32).

usage: adamw_test.py ORACLE_DRIVER
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch

import oracle

COUNT, STEPS = 1000, 50
RATE, BETA1, BETA2, EPSILON, DECAY = 3e-3, 0.9, 0.95, 1e-8, 0.1


def gradient_at(random, step):
    """Of very different sizes, with exact zeros."""
    return (random.standard_normal(COUNT) * 10.0 ** random.integers(-6, 3, COUNT) * (random.random(COUNT) > 0.1) *
            (1 + step % 3)).astype(np.float32)


def torch_adamw(start, gradients, dtype):
    """The weights after a step for each gradient, computed in dtype, as float64."""
    weights = torch.nn.Parameter(torch.from_numpy(start).to(dtype))
    optimiser = torch.optim.AdamW([weights], lr=RATE, betas=(BETA1, BETA2), eps=EPSILON, weight_decay=DECAY)
    for gradient in gradients:
        weights.grad = torch.from_numpy(gradient).to(dtype)
        optimiser.step()
    return weights.detach().to(torch.float64)


def main(driver):
    random = np.random.default_rng(1)
    start = random.standard_normal(COUNT).astype(np.float32)
    gradients = [gradient_at(random, step) for step in range(STEPS)]

    # The driver's input: COUNT, STEPS, then fp32: the five constants, the weights, and for each step its three numbers
    # and its gradient.
    numbers = [np.array([BETA1, 1 - BETA1, BETA2, 1 - BETA2, EPSILON]), start]
    for step, gradient in enumerate(gradients, 1):
        numbers.append(np.array([1 - RATE * DECAY, RATE / (1 - BETA1**step), 1 / np.sqrt(1 - BETA2**step)]))
        numbers.append(gradient)
    with tempfile.TemporaryDirectory() as folder:
        source, result = pathlib.Path(folder) / "in", pathlib.Path(folder) / "out"
        source.write_bytes(np.array([COUNT, STEPS], "<u8").tobytes() +
                           np.concatenate(numbers).astype("<f4").tobytes())
        subprocess.run([driver, "adamw", source, result], check=True)
        ours = np.fromfile(result, "<f4")

    start64 = torch.from_numpy(start.astype(np.float64))
    true = torch_adamw(start, gradients, torch.float64)
    change = oracle.relative_error(torch.from_numpy(ours.astype(np.float64)) - start64, true - start64)
    theirs = oracle.relative_error(torch_adamw(start, gradients, torch.float32) - start64, true - start64)
    print(f"relative error of the change of the weights after {STEPS} steps: {change:.2e}, PyTorch fp32 {theirs:.2e}")
    # Nearly all of it is the rounding of 1 - rate * decay to fp32, the same in both.
    assert change <= 1.1 * theirs, "AdamW is worse than PyTorch's in fp32"
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
