"""How far the training is: a bar on a terminal, a line every ten seconds elsewhere."""

import time

from rich import progress as bars

from common import console, say

SECONDS_BETWEEN_LINES = 10


class Progress:
    """Counts towards --minutes or --rounds. Use in a `with` statement."""

    def __init__(self, options):
        self._seconds = options.minutes and options.minutes * 60
        self._rounds = options.rounds
        self._bar = bars.Progress(bars.BarColumn(bar_width=20), bars.TextColumn("{task.description}"), console=console,
                                  disable=not console.is_terminal)
        self._task = self._bar.add_task("starting the agents …", total=1)
        self._next_line = 0

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *_):
        self._bar.stop()

    def update(self, state, elapsed, rounds_of_this_run):
        text = ", ".join(describe(state) + [self._left(state, elapsed, rounds_of_this_run)])
        if console.is_terminal:
            self._bar.update(self._task, description=text, completed=self._share_done(state, elapsed))
        elif time.monotonic() >= self._next_line:
            say(text)
            self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES

    def _share_done(self, state, elapsed):
        return min(1, state["rounds_done"] / self._rounds if self._rounds else elapsed / self._seconds)

    def _left(self, state, elapsed, rounds_of_this_run):
        if self._rounds:
            rounds_left = self._rounds - state["rounds_done"]
            if rounds_left == 0:
                return "measuring the final loss"
            if rounds_of_this_run == 0:
                return f"{rounds_left} to go"
            seconds = rounds_left * elapsed / rounds_of_this_run
        else:
            seconds = self._seconds - elapsed
            if seconds <= 0:
                return "ending the last round" if state["state"] == "running" else "measuring the final loss"
        return f"{clock(seconds)} left"


def describe(state):
    parts = [f"round {state['rounds_done']}"]
    if state["training_loss"]:
        parts.append(f"loss {state['training_loss'][-1][1]:.3f}")
    parts.append(f"{state['tokens_per_second']:,.0f} tokens/s")
    parts.append(f"{state['units_accepted']} accepted, {state['units_rejected']} rejected")
    return parts


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
