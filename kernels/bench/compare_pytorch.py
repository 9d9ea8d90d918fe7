#!/usr/bin/env python3
"""Whole training steps (forward, backward, AdamW) of step_bench and of PyTorch, in turns, with the same threads.

    compare_pytorch.py STEP_BENCH [--threads 1 2] [--turns N] [--only NAME]

PyTorch computes fp32 in eager mode with scaled_dot_product_attention and the fused AdamW. Prints a Markdown table.
"""
import statistics
import time

import torch

from gpt2 import Gpt2
from step_bench import SHAPES, StepBench, run_comparison


class PyTorch:
    def __init__(self, shape, clock):
        layers, heads, channels, vocabulary, batch, context = shape
        self.clock = clock
        self.model = Gpt2(layers, heads, channels, vocabulary, context)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)
        tokens = (torch.arange(batch * (context + 1)) * 7919 % vocabulary).view(batch, context + 1)
        self.inputs, self.targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()

    def step(self):
        self.optimiser.zero_grad(set_to_none=True)
        self.model.loss(self.inputs, self.targets).backward()
        self.optimiser.step()

    def seconds(self, steps):
        self.step()
        start = self.clock()
        for _ in range(steps):
            self.step()
        return self.clock() - start


def compare(name, program, threads, turns):
    shape, steps = SHAPES[name]
    torch.set_num_threads(threads)
    # One thread is measured in processor time, which others on the machine hardly disturb; step_bench does the same.
    ours = StepBench(program, shape, threads)
    theirs = PyTorch(shape, time.process_time if threads == 1 else time.perf_counter)
    pairs = [(ours.seconds(steps), theirs.seconds(steps)) for _ in range(turns)]
    ours.stop()
    tokens = steps * shape[4] * shape[5]
    rates = [tokens / statistics.median(times) for times in zip(*pairs)]
    ratio = statistics.median(t / o for o, t in pairs)
    print(f"| {name}, batch {shape[4]} x {shape[5]}, vocabulary {shape[3]} | {threads} | {rates[0]:,.0f} | "
          f"{rates[1]:,.0f} | {ratio:.2f} |", flush=True)


def main():
    run_comparison(__doc__.splitlines()[0],
                   f"PyTorch {torch.__version__}, {{turns}} turns, medians; tokens/s\n\n"
                   "| model | threads | ours | PyTorch | ours / PyTorch |\n|---|---|---|---|---|",
                   compare)


if __name__ == "__main__":
    main()
