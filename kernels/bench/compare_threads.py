#!/usr/bin/env python3
"""Whole training steps of several threads and of one, in turns.

    compare_threads.py STEP_BENCH [--threads 1 2] [--turns N] [--only NAME]

One thread is measured in processor time, several in wall time, so nothing else may run; what --threads 1 gives is the
machine's noise. GRADMINER_SIMD chooses the path. Prints a Markdown table.
"""
import statistics

from step_bench import SHAPES, StepBench, run_comparison, times_in_turns


def compare(name, program, threads, turns):
    shape, steps = SHAPES[name]
    running = [StepBench(program, shape, count) for count in (1, threads)]
    times = times_in_turns(running, steps, turns)
    tokens = steps * shape[4] * shape[5]
    rates = [f"{tokens / statistics.median(own):,.0f}" for own in zip(*times)]
    ratios = [one / several for one, several in times]
    print(f"| {name}, batch {shape[4]} x {shape[5]}, vocabulary {shape[3]} | {threads} | {' | '.join(rates)} | "
          f"{statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |", flush=True)


def main():
    run_comparison(__doc__.splitlines()[0],
                   "{turns} turns, medians\n\n"
                   "| model | threads | one thread, tokens/s | all, tokens/s | all / one | lowest to highest |\n|---|---|---|---|---|---|",
                   compare)


if __name__ == "__main__":
    main()
