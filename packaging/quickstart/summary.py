"""What came out of a run: for a person on the terminal, and as DIR/summary.json."""

import json
import shlex
import subprocess
from pathlib import Path

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from common import BINARIES, ROOT, console, say
from folder import unigram_entropy, write
from training import ACCOUNTS

SAMPLE_LENGTH = 300


def show(training):
    state = training.final
    facts = as_json(state, training.checkpoint)
    write(training.folder.path / "summary.json", json.dumps(facts, indent=2))

    entropy = unigram_entropy(training.folder.text.read_bytes())
    say("")
    say(curve(state, entropy))
    console.print(table(facts, entropy, training), soft_wrap=False)
    sample = printable(training.sample(SAMPLE_LENGTH))
    console.print(Panel(Text(sample, overflow="fold"), title=f"What it writes ({SAMPLE_LENGTH} bytes)", title_align="left",
                        width=min(100, console.width)), soft_wrap=False)
    say(what_next(training))


def as_json(state, checkpoint):
    losses = [loss for _, loss in state["validation_loss"]]
    copied = ("units_accepted", "units_rejected", "tokens", "tokens_per_second", "bytes_up", "bytes_down",
              "weights_digest", "seed", "job")
    return {"validation_loss_first": losses[0], "validation_loss_last": losses[-1], "rounds": state["rounds_done"],
            **{key: state[key] for key in copied}, "earned": dict.fromkeys(ACCOUNTS, 0) | state["earned"],
            "checkpoint": str(checkpoint)}


def compared(loss, entropy):
    if entropy == 0:
        return f"{loss:.3f} more than for knowing the only byte that occurs"
    return f"{loss / entropy:.2f} of the {entropy:.3f} that knowing only how often each byte occurs gives"


def table(facts, entropy, training):
    rows = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    first, last = facts["validation_loss_first"], facts["validation_loss_last"]

    def row(name, value):
        rows.add_row(Text(name, style="bold"), Text(value, overflow="fold"))

    row("validation loss", f"{first:.3f} → {last:.3f} nats per byte")
    row("", compared(last, entropy))
    row("rounds", f"{facts['rounds']}, {facts['tokens']:,} bytes of {training.folder.text_name} read, "
                  f"{facts['tokens_per_second']:,.0f} per second")
    row("units", f"{facts['units_accepted']} accepted, {facts['units_rejected']} rejected")
    row("traffic", f"{megabytes(facts['bytes_up'])} up, {megabytes(facts['bytes_down'])} down")
    earned = ", ".join(f"{account} {amount:,}" for account, amount in sorted(facts["earned"].items()))
    row("earned", f"{earned} micro-credits")
    row("checkpoint", relative(facts["checkpoint"]))
    row("its SHA-256", facts["weights_digest"])
    return rows


def curve(state, entropy):
    """The losses over the rounds, drawn in characters."""
    series = {"training": [(round_ + 1, loss) for round_, loss in state["training_loss"]],
              "validation": state["validation_loss"]}
    last_round = max(1, state["rounds_done"])
    script = ["set terminal dumb size 96,20 ansi256" if console.is_terminal else "set terminal dumb size 96,20",
              "set xlabel 'round'", "set ylabel 'nats per byte'", f"set xrange [0:{last_round}]", "set key top right"]
    plots = ["'-' with lines title 'training'", "'-' with linespoints title 'validation'",
             f"{entropy} with lines dashtype 2 title 'byte frequencies alone'"]
    script.append("plot " + ", ".join(plots))
    for points in series.values():
        script += [f"{round_} {loss}" for round_, loss in points] + ["e"]
    drawn = subprocess.run(["gnuplot"], input="\n".join(script), capture_output=True, text=True)
    return drawn.stdout.strip("\f\n")


def printable(text):
    """Control characters escaped, so that a young model cannot play with the terminal."""
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def megabytes(count):
    return f"{count / 1e6:,.1f} MB"


def relative(path):
    """Short where it lies below the current folder."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def what_next(training):
    def shown(path):
        return shlex.quote(relative(path))
    quickstart = ROOT / "quickstart"
    command = "./quickstart" if quickstart.parent == Path.cwd() else shown(quickstart)
    folder = training.folder.path
    same = "" if folder == ROOT / "build/quickstart" else f" --dir {shown(folder)}"
    return f"""
What to try next
  {command}{same} --minutes 30                     go on from here
  {shown(BINARIES / "gradminer")} sample --model {shown(training.checkpoint)} --prompt "And God said" --length 500
  {shown(BINARIES / "gradpool")} --data {shown(folder / "pool")} ledger
  {shown(BINARIES / "gradminer")} earnings --data {shown(folder / "agent-1")}
  sha256sum {shown(training.checkpoint / "model.safetensors")}   the digest above
"""
