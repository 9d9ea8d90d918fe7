"""The layer of layer.cpp around one data folder: which steps its programs reach, and at which one they die."""

import collections
import contextlib
import os
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "end_to_end"))

import harness  # noqa: E402


def library():
    return os.environ.get("FAULTS") or str(harness.REPOSITORY / "build/release/tests/faults/libfaults.so")


@contextlib.contextmanager
def sandbox(seed):
    """A sandbox that is kept, with its logs and the command that repeats it printed, where the body fails."""
    made, good = harness.Sandbox(), False
    try:
        yield made
        good = True
    finally:
        if not good:
            made.print_logs()
            print(f"FAILED; again with: {' '.join(sys.argv)} --seed {seed}")
        made.close(keep=not good)


class Faults:
    """Give `env` to every program that uses `data`. With disk, power.cut makes data lose what was not synced."""

    def __init__(self, data, disk=False, no_sync=None):
        data = pathlib.Path(data)
        self.data = data
        self.trace, self.arm_file = data.with_name(data.name + ".trace"), data.with_name(data.name + ".arm")
        self.arm_file.write_bytes(bytes(4096))
        self.env = {"LD_PRELOAD": library(), "FAULTS_ROOT": str(data), "FAULTS_TRACE": str(self.trace),
                    "FAULTS_ARM": str(self.arm_file)}
        self.disk = None
        self.cuts = collections.Counter()  # of the power, at each step
        if disk:
            self.disk = data.with_name(data.name + ".disk")
            for part in ("content", "names"):
                (self.disk / part).mkdir(parents=True)
            self.env["FAULTS_DISK"] = str(self.disk)
        if no_sync:
            self.env["FAULTS_NO_SYNC"] = no_sync

    def unarmed(self):
        """The environment of a program that shall not die where another one is to."""
        return {name: value for name, value in self.env.items() if name != "FAULTS_ARM"}

    def arm(self, step, nth=1):
        """The next program that reaches `step` for the nth time from now on dies there."""
        with open(self.arm_file, "r+b", buffering=0) as file:
            file.write(struct.pack("i", 0))
            file.seek(8)
            file.write(step.encode() + b"\0")
            file.seek(0)
            file.write(struct.pack("i", nth))

    def disarm(self):
        with open(self.arm_file, "r+b", buffering=0) as file:
            file.write(struct.pack("i", 0))

    def fill(self, full):
        """Whether the disk is full."""
        with open(self.arm_file, "r+b", buffering=0) as file:
            file.seek(4)
            file.write(struct.pack("i", full))

    def countdown(self):
        """0: not armed, or died."""
        return struct.unpack("i", self.arm_file.read_bytes()[:4])[0]

    def lines(self):
        return self.trace.read_text().splitlines() if self.trace.exists() else []

    def steps(self):
        """All steps that were ever reached, in the order of their first time."""
        return list(dict.fromkeys(line for line in self.lines() if not line.startswith("KILL ")))

    def steps_of_last(self):
        """Those that were reached after the last death."""
        lines = self.lines()
        died = max((i for i, line in enumerate(lines) if line.startswith("KILL ")), default=-1)
        return list(dict.fromkeys(lines[died + 1:]))

    def kills(self):
        """How often a program died at each step."""
        return collections.Counter(line[5:] for line in self.lines() if line.startswith("KILL "))
