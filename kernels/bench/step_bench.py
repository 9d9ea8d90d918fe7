"""The program step_bench as the comparisons use it."""
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
