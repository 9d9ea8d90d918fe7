"""The program step_bench as the comparisons use it, and their command line."""
import argparse
import subprocess

# layers, heads, channels, vocabulary, batch, context; steps of a turn
SHAPES = {
    "4x128": ((4, 4, 128, 256, 12, 64), 20),
    "6x384": ((6, 6, 384, 256, 8, 256), 2),
    "12x768": ((12, 12, 768, 50257, 2, 256), 1),
}


class StepBench:
    """A running step_bench, which makes steps when asked to."""

    def __init__(self, program, shape, threads, profile="exact-fp32"):
        names = ["layers", "heads", "channels", "vocabulary", "batch", "context"]
        options = [f"--{name}={value}" for name, value in zip(names, shape)]
        self.process = subprocess.Popen([program, f"--threads={threads}", f"--profile={profile}", *options],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, steps):
        print(steps, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def times_in_turns(benches, steps, turns):
    """Seconds of each bench, turn by turn; then they are stopped."""
    times = [[bench.seconds(steps) for bench in benches] for _ in range(turns)]
    for bench in benches:
        bench.stop()
    return times


def run_comparison(description, heading, compare):
    """compare(name, program, threads, turns) prints a row for each model and number of threads asked for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("step_bench")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--only", choices=SHAPES)
    arguments = parser.parse_args()
    print(heading.format(turns=arguments.turns))
    for name in [arguments.only] if arguments.only else SHAPES:
        for threads in arguments.threads:
            compare(name, arguments.step_bench, threads, arguments.turns)
