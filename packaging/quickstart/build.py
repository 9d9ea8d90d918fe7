"""Configures and builds a preset: only what is stale, quietly, with a log to read when it fails."""

import fcntl
import os
import re
import subprocess

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from common import ROOT, Failure, console, say

MEMORY_PER_JOB = 2000 << 20  # a library as one file, with the address sanitizer


def build(preset, targets=("all",), options=(), first_options=()):
    """`options` are cmake's; so are `first_options`, where the preset has not been configured yet."""
    log = ROOT / f"build/{preset}.log"
    log.parent.mkdir(exist_ok=True)
    folder = ROOT / "build" / preset
    with open(log.parent / "build.lock", "w") as one_at_a_time, open(log, "w", buffering=1) as output:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        first = not (folder / "build.ninja").exists()
        if first or not all(is_set(folder, option) for option in options):
            say(f"Configuring ({preset}) …")
            run(["cmake", "--preset", preset, *(first_options if first else ()), *options], output, log)
        compile_with_progress(preset, folder, targets, output, log)


def is_set(folder, option):
    """Whether the folder is configured with `-DNAME=VALUE`."""
    name, value = option.removeprefix("-D").split("=")
    return re.search(rf"^{name}:\w+={value}$", (folder / "CMakeCache.txt").read_text(), re.MULTILINE) is not None


def compile_with_progress(preset, folder, targets, output, log):
    command = ["ninja", "-C", str(folder), f"-j{jobs()}", *targets]
    environment = dict(os.environ, NINJA_STATUS="[%f/%t] ")
    columns = (TextColumn("Building ({task.fields[preset]})"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
               TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = None
        ninja = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True, errors="backslashreplace")
        try:
            for line in ninja.stdout:
                output.write(line)
                step = re.match(r"\[(\d+)/(\d+)\] ", line)
                if step:
                    if task is None:
                        task = progress.add_task("build", preset=preset, total=None)
                        if not console.is_terminal:
                            say(f"Building ({preset}), log: {log} …")
                    progress.update(task, completed=int(step[1]), total=int(step[2]))
        except KeyboardInterrupt:
            ninja.terminate()
            raise
        finally:
            code = ninja.wait()
            output.flush()
        if code != 0:
            raise failure("building", log)


def run(command, output, log):
    if subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT).returncode:
        raise failure("configuring", log)


def failure(step, log):
    lines = log.read_text(errors="backslashreplace").splitlines()
    first_error = next((i for i, line in enumerate(lines) if re.search(r"error: |^CMake Error", line)), len(lines) - 10)
    shown = "\n".join("  " + line for line in lines[max(0, first_error):][:15])
    return Failure(f"{step} failed:\n{shown}\nThe whole log: {log}")


def jobs():
    """One per core, as far as the memory goes."""
    with open("/proc/meminfo") as file:
        available = next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable"))
    return max(1, min(len(os.sched_getaffinity(0)), available // MEMORY_PER_JOB))
