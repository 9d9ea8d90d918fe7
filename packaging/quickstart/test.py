"""./quickstart test [--all]: builds, then runs every test; one closing line says how many passed."""

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import time

from build import build, jobs
from common import ROOT, Failure, say
from options import Parser
from progress import clock

SECONDS_PER_FUZZER = 60
LINES_OF_A_FAILURE = 40  # of its output that are shown once more at the end
# What the sanitizers run: every part of the programs, and the pool's server from outside. Timings, browsers and runs of
# both programs together are the release's part; the address sanitizer takes the slow tests that it can afford.
SANITIZED = {"asan": ("kernels", "simt", "ptx", "cuda", "pool-protocol", "agent", "coordinator"),
             "tsan": ("simt", "cuda", "agent", "coordinator")}
NOT_SANITIZED = {"asan": "^slow$|unsanitized|cross|browser", "tsan": "slow|unsanitized|cross|browser"}
# One thread alone, or the same once more for each byte or with more steps: of races they show nothing that the other
# tests do not. Where NCCL hangs or is aborted (NcclUnits.Whatever…, StuckCards.AlsoWhereCardsAreLinked, NcclTest.*Hang…),
# threads are left behind while the stand-ins for it and for the driver go on or begin anew. The last ones rest on limits
# of milliseconds and on which of two kernels is faster, which a sanitizer's pace decides.
WITHOUT_RACES = ("SelfTest.ReferenceGives|TornFiles|TornPoolFiles|CutAtEveryByte|CudaGolden.*three_steps|"
                 "CublasLtTest.GoldenUnits|NcclUnits.Whatever|StuckCards.AlsoWhereCardsAreLinked|NcclTest.*Hang|"
                 "RepeatedOnACardThatHangs|CublasLtTest.*Hangs|CublasLtTrial.WhereItIsFaster")
# The first finding ends the process, so that the test which runs into it fails.
SANITIZER_OPTIONS = {"UBSAN_OPTIONS": "print_stacktrace=1",
                     "TSAN_OPTIONS": f"halt_on_error=1 suppressions={ROOT / 'tests/tsan_suppressions.txt'}"}
ADDR_NO_RANDOMIZE = 0x0040000  # of personality(2)

BEGIN = time.monotonic()


def main():
    parser = Parser(prog="quickstart test", add_help=False, allow_abbrev=False)
    parser.add_argument("--all", action="store_true")
    everything = parser.parse_args(sys.argv[1:]).all
    tests = Tests()

    step("The Python environment of the oracle tests")
    run([ROOT / "tests/oracle/setup.sh"])
    step("Release build with tests")
    build("release", options=["-DGRADMINER_CUDA=AUTO"])
    step("Tests")
    tests.run("build/release", *([] if everything else ["-LE", "slow"]))
    if everything:
        for preset, folders in SANITIZED.items():
            with without_random_addresses() if preset == "tsan" else contextlib.nullcontext():
                step(f"Sanitizer build ({preset})")
                build(preset, [f"tests/{folder}/all" for folder in folders])
                for folder in folders:
                    step(f"{preset}: tests/{folder}")
                    skipped = ["-E", WITHOUT_RACES] if preset == "tsan" else []
                    tests.run(f"build/{preset}/tests/{folder}", "-LE", NOT_SANITIZED[preset], *skipped,
                              environment=SANITIZER_OPTIONS)
        step("clang-tidy")
        tests.count_script("tests/structure/tidy.sh")
        step("Fuzzers")
        tests.count_script("tests/fuzz/run.sh", str(SECONDS_PER_FUZZER))

    minutes = clock(time.monotonic() - BEGIN)
    percent = 100 * (tests.total - tests.failed) // max(1, tests.total)
    for failure in tests.failures:
        say("\n" + "".join(failure[:1] + failure[1:][-LINES_OF_A_FAILURE:]).rstrip())
    say(f"\n{percent}% tests passed, {tests.failed} tests failed out of {tests.total} ({minutes} minutes)")
    if tests.failed or tests.total == 0:
        sys.exit(1)


class Tests:
    """Counts what ctest says, and keeps the lines of what fails for the end, where a log is read first."""

    def __init__(self):
        self.total = self.failed = 0
        self.failures = []  # of each: the line that names it, then its output

    def run(self, folder, *arguments, environment=()):
        # One more than there are cores, because some tests mostly wait.
        command = ["ctest", "--test-dir", folder, f"-j{jobs() + 1}", "--output-on-failure", "--no-tests=error", *arguments]
        ctest = subprocess.Popen(command, cwd=ROOT, env=os.environ | dict(environment), stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="backslashreplace")
        counted = False
        failure = None
        for line in ctest.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            if re.match(r"\s*(Start +\d+: |\d+/\d+ Test +#|\d+% tests passed)", line):
                failure = None
            if re.match(r"\s*\d+/\d+ Test +#\d+: .*\*\*\*(?!Skipped)", line):
                failure = []
                self.failures.append(failure)
            if failure is not None:
                failure.append(line)
            closing = re.match(r"\d+% tests passed, (\d+) tests failed out of (\d+)", line)
            if closing:
                self.failed += int(closing[1])
                self.total += int(closing[2])
                counted = True
        ctest.wait()
        if not counted:
            raise Failure(f"ctest ran no test in {folder}")

    def count_script(self, script, *arguments):
        """One test, which passes if the script succeeds."""
        done = subprocess.run([ROOT / script, *arguments], cwd=ROOT, stdin=subprocess.DEVNULL)
        self.total += 1
        if done.returncode != 0:
            self.failed += 1
            self.failures.append([f"{script} failed"])


@contextlib.contextmanager
def without_random_addresses():
    """GCC 12's thread sanitizer cannot start where the kernel spreads addresses over more than 28 bits."""
    libc = ctypes.CDLL(None)
    before = libc.personality(0xffffffff)  # only asks
    if before == -1 or libc.personality(before | ADDR_NO_RANDOMIZE) == -1:
        say("This kernel or container does not let a process have fixed addresses (personality(2)). Where programs of the "
            "thread sanitizer end with `unexpected memory mapping`, `sysctl vm.mmap_rnd_bits=28` on the host is the cure.")
        yield
        return
    try:
        yield
    finally:
        libc.personality(before)


def step(title):
    say(f"\n=== {title} ({clock(time.monotonic() - BEGIN)})", style="bold")


def run(command):
    if subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL).returncode != 0:
        raise Failure(f"`{' '.join(map(str, command))}` failed; its words are above.")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
    except Failure as failure:
        print(f"quickstart test: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
