"""The command line of ./quickstart: every mistake gets one message and exit code 2."""

import argparse
import math
from pathlib import Path

from common import ROOT

MINIMUM_TEXT = 2000  # bytes; below it the validation split would be shorter than one row of the model's context
MAXIMUM_ROUNDS = 1_000_000
DEFAULT_MINUTES = 3.0


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"quickstart: {message}\nTry ./quickstart --help\n")


def minutes(text):
    value = number(text, float)
    if not (math.isfinite(value) and 0 < value <= 7 * 24 * 60):
        raise argparse.ArgumentTypeError(f"{text} minutes: expected more than 0 and at most 10080 (a week)")
    return value


def rounds(text):
    value = number(text, int)
    if not 1 <= value <= MAXIMUM_ROUNDS:
        raise argparse.ArgumentTypeError(f"{text} rounds: expected 1 to {MAXIMUM_ROUNDS}")
    return value


def seed(text):
    value = number(text, int)
    if not 0 <= value < 2**53:
        raise argparse.ArgumentTypeError(f"seed {text}: expected 0 to 2^53 - 1")
    return value


def number(text, kind):
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' if kind is int else ''}number")


def parse(arguments):
    parser = Parser(prog="quickstart", add_help=False, allow_abbrev=False)
    parser.add_argument("--text", type=Path)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=minutes)
    length.add_argument("--rounds", type=rounds)
    parser.add_argument("--dir", type=Path, default=ROOT / "build/quickstart")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--seed", type=seed)
    options = parser.parse_args(arguments)
    if options.rounds is None and options.minutes is None:
        options.minutes = DEFAULT_MINUTES
    options.dir = options.dir.absolute()
    return options
