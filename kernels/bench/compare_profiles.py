#!/usr/bin/env python3
"""Whole training steps of the int8 profiles and of exact-fp32, in turns, with the same threads.

    compare_profiles.py STEP_BENCH [--threads 1 2] [--turns N] [--only NAME]

GRADMINER_SIMD chooses the path. Prints a Markdown table.
"""
import argparse
import statistics
import sys

from step_bench import SHAPES, StepBench

PROFILES = ("exact-fp32", "exact-int8", "exact-int8-head")


def compare(name, program, threads, turns):
    shape, steps = SHAPES[name]
    running = [StepBench(program, shape, threads, profile) for profile in PROFILES]
    times = [[bench.seconds(steps) for bench in running] for _ in range(turns)]
    for bench in running:
        bench.stop()
    tokens = steps * shape[4] * shape[5]
    cells = [f"{tokens / statistics.median(own):,.0f}" for own in zip(*times)]
    ratios = [f"{statistics.median(turn[0] / turn[i] for turn in times):.2f}" for i in (1, 2)]
    print(f"| {name}, batch {shape[4]} x {shape[5]}, vocabulary {shape[3]} | {threads} | {' | '.join(cells + ratios)} |",
          flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step_bench")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--only", choices=SHAPES)
    arguments = parser.parse_args()
    print(f"{arguments.turns} turns, medians; tokens/s\n")
    print("| model | threads | fp32 | int8 | int8-head | int8 / fp32 | int8-head / fp32 |\n|---|---|---|---|---|---|---|")
    for name in [arguments.only] if arguments.only else SHAPES:
        for threads in arguments.threads:
            compare(name, arguments.step_bench, threads, arguments.turns)


if __name__ == "__main__":
    sys.exit(main())
