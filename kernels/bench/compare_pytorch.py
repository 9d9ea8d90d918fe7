#!/usr/bin/env python3
"""Whole training steps (forward, backward, AdamW) of step_bench and of PyTorch, in turns, with the same threads.

    compare_pytorch.py STEP_BENCH [--threads 1 2] [--turns N] [--only NAME]

PyTorch computes fp32 in eager mode with scaled_dot_product_attention and the fused AdamW. Prints a Markdown table.
"""
import statistics
import time

import torch
from torch import nn
from torch.nn import functional

from step_bench import SHAPES, StepBench, run_comparison


class Layer(nn.Module):
    def __init__(self, heads, channels):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.inner, self.outer = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x):
        batch, context, channels = x.shape
        q, k, v = (part.view(batch, context, self.heads, -1).transpose(1, 2)
                   for part in self.qkv(self.norm_1(x)).split(channels, 2))
        attention = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(attention.transpose(1, 2).reshape(batch, context, channels))
        return x + self.outer(functional.gelu(self.inner(self.norm_2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self, layers, heads, channels, vocabulary, context):
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, channels), nn.Embedding(context, channels)
        self.layers = nn.Sequential(*(Layer(heads, channels) for _ in range(layers)))
        self.norm = nn.LayerNorm(channels)

    def loss(self, inputs, targets):
        x = self.token(inputs) + self.position.weight[:inputs.shape[1]]
        logits = functional.linear(self.norm(self.layers(x)), self.token.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


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
