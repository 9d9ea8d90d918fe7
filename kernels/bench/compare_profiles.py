#!/usr/bin/env python3
"""Whole training steps of the int8 profiles and of exact-fp32, in turns, with the same threads.

    compare_profiles.py STEP_BENCH [--threads 1 2] [--turns N] [--only NAME]

GRADMINER_SIMD chooses the path. Prints a Markdown table.
"""
import statistics

from step_bench import SHAPES, StepBench, run_comparison, times_in_turns

PROFILES = ("exact-fp32", "exact-int8", "exact-int8-head")


def compare(name, program, threads, turns):
    shape, steps = SHAPES[name]
    running = [StepBench(program, shape, threads, profile) for profile in PROFILES]
    times = times_in_turns(running, steps, turns)
    tokens = steps * shape[4] * shape[5]
    cells = [f"{tokens / statistics.median(own):,.0f}" for own in zip(*times)]
    ratios = [f"{statistics.median(turn[0] / turn[i] for turn in times):.2f}" for i in (1, 2)]
    print(f"| {name}, batch {shape[4]} x {shape[5]}, vocabulary {shape[3]} | {threads} | {' | '.join(cells + ratios)} |",
          flush=True)


def main():
    run_comparison(__doc__.splitlines()[0],
                   "{turns} turns, medians; tokens/s\n\n"
                   "| model | threads | fp32 | int8 | int8-head | int8 / fp32 | int8-head / fp32 |\n|---|---|---|---|---|---|---|",
                   compare)


if __name__ == "__main__":
    main()
