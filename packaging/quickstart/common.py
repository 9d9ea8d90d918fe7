"""What every part of the quickstart shares."""

import json
import subprocess
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parents[2]
BINARIES = ROOT / "build/release/bin"

console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console = Console(highlight=False, soft_wrap=True, width=100)


class Failure(Exception):
    """Something that a person can act on: the message names it and the way out."""


def say(text, style=None):
    console.print(text, style=style, markup=False)


def command_output(command, log=None):
    """Standard output of a command of ours; a Failure with its own words where it does not succeed."""
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, errors="backslashreplace", stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip() or "it said nothing")[-2000:]
        hint = f"\nLog: {log}" if log else ""
        raise Failure(f"`{' '.join(command)}` ended with exit code {done.returncode}:\n{words}{hint}")
    return done.stdout


def json_output(command, log=None):
    text = command_output(command, log)
    try:
        return json.loads(text)
    except ValueError:
        raise Failure(f"`{' '.join(map(str, command))}` did not print JSON: {text[:200]!r}")
