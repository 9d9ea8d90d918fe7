#!/usr/bin/env python3
"""How much one core of gradpool serves: 2,000 connected agents on another core, at rates from half the goal to twice what
the pool can do. Prints a table, and writes it and a plot; exits 1 where a goal is missed.

The limit is the highest load of which nothing is refused; the peak is the most that was served, whatever was refused.

The pool has its default limits; the agents come from 20 addresses. SQLite is synchronous=FULL, as always.
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "end_to_end"))
import harness  # noqa: E402

LEASES, SUBMISSIONS = 200, 10  # a second: the goal, 2,000 agents that lease every 10 s
GOAL_P99_MS, GOAL_KB, GOAL_COLLAPSE = 250, 100, 0.8
MODEL = {"model_type": "gpt2", "vocab_size": 256, "n_positions": 700, "n_embd": 64, "n_layer": 4, "n_head": 4}  # 1.04 MB


def resident_kb(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError(f"no VmRSS of {pid}")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Load:
    """A served pool on one core and the generator on the other."""

    def __init__(self, sandbox, agents, cores):
        self.pool = harness.Pool(sandbox)
        accounts = [argument for i in range(20) for argument in (f"farm-{i}", self.pool.account(f"farm-{i}"))]
        self.pool.dataset("text", harness.generated_text(100_000))
        for name in ("left", "right"):  # while a round of one is closed, the other has units
            self.pool.job(name, "text", model=MODEL, rounds=100_000, units=100, lanes=1, steps=1, batch=1, context=32,
                          codec="fp32", outer="adamw", evaluate_every=100_000, evaluate_rows=32)
        self.pool.start()
        self.pid = self.pool.server.popen.pid
        for thread in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {cores[0]})
        port = self.pool.url.rpartition(":")[2]
        self.empty_kb = resident_kb(self.pid)
        argv = ["taskset", "-c", cores[1], harness.binary("load_generator"), "--host", "127.0.0.1", "--port", port,
                "--ca", sandbox.ca, "--agents", agents, "--account", *accounts]
        self.generator = subprocess.Popen([str(a) for a in argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                          preexec_fn=harness._die_with_parent)
        self.connected = self.answer()
        assert self.connected["connected"] == agents, self.connected

    def answer(self):
        line = self.generator.stdout.readline()
        if not line:
            raise SystemExit(f"the load generator ended with {self.generator.wait()}")
        return json.loads(line)

    def stage(self, factor, seconds):
        """`factor` times the goal's rates for so long; the generator's report with the pool's memory and processor time."""
        before = cpu_seconds(self.pid)
        generator_before = cpu_seconds(self.generator.pid)
        self.generator.stdin.write(f"{factor * LEASES} {factor * SUBMISSIONS} {seconds}\n")
        self.generator.stdin.flush()
        report = self.answer()
        report["factor"] = factor
        report["cpu"] = (cpu_seconds(self.pid) - before) / seconds
        report["generator_cpu"] = (cpu_seconds(self.generator.pid) - generator_before) / seconds
        report["resident_kb"] = resident_kb(self.pid)
        report["served"] = report["leases"]["per_second"] + report["submissions"]["per_second"]
        report["offered"] = report["leases_offered"] + report["submissions_offered"]
        return report


HEADER = """\
| load | offered/s | served/s | leases p50, p99 ms | submissions/s | p99 ms | refused/s | pool's core | MB |
|---|---|---|---|---|---|---|---|---|"""


def row(report):
    leases, submissions = report["leases"], report["submissions"]
    return (f"| {report['factor']:.2f} | {report['offered']:.0f} | {report['served']:.0f} | {leases['p50_ms']:.1f}, "
            f"{leases['p99_ms']:.0f} | {submissions['per_second']:.1f} | {submissions['p99_ms']:.0f} | "
            f"{sum(report['refused'].values()) / report['seconds']:.0f} | {100 * report['cpu']:.0f}% | "
            f"{report['resident_kb'] / 1024:.0f} |")


def shown(report):
    print(row(report), flush=True)
    return report


def ramp(load, seconds):
    """Reports at rising load until less than nine tenths of it is served."""
    factor, reports = 0.5, []
    while not reports or reports[-1]["served"] > 0.9 * reports[-1]["offered"]:
        reports.append(shown(load.stage(factor, seconds)))
        factor *= 1.5
    return reports


def close_in(load, seconds, reports):
    """Reports between the last load without a refusal and the first with one, until they are a tenth apart; the limit."""
    above = min((report["factor"] for report in reports if report["refused"]), default=reports[-1]["factor"])
    below = max((report["factor"] for report in reports if report["factor"] < above), default=above)
    closer = []
    while above > 1.1 * below:
        closer.append(shown(load.stage(math.sqrt(above * below), seconds)))
        if closer[-1]["refused"]:
            above = closer[-1]["factor"]
        else:
            below = closer[-1]["factor"]
    return closer, below


def plot(reports, peak, file):
    reports = sorted(reports, key=lambda report: report["offered"])
    points = "\n".join(f"{r['offered']} {r['served']} {r['leases']['p99_ms']}" for r in reports)
    script = f"""set terminal svg size 800,420 font 'sans,12' background 'white'
set output '{file}'
set xlabel 'offered: requests for leases and submissions of 1 MB, a second'
set ylabel 'served a second'
set y2label 'p99 of a lease, ms'
set logscale y2
set ytics nomirror
set y2tics
set yrange [0:*]
set key top left
set arrow from {peak}, graph 0 to {peak}, graph 1 nohead dashtype 2
$points << END
{points}
END
plot $points using 1:2 with linespoints pointtype 7 title 'served', \
     $points using 1:3 axes x1y2 with linespoints pointtype 5 title 'p99 of a lease (right)'
"""
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def missed_goals(kb, goal, twice, beyond, peak, after):
    """What is not as the goals say, in words."""
    polite = {"overloaded", "rate_limited"}
    checks = [
        (kb <= GOAL_KB, f"{kb:.0f} KB a connection, at most {GOAL_KB}"),
        (goal["leases"]["p99_ms"] <= GOAL_P99_MS, f"p99 of a lease {goal['leases']['p99_ms']:.0f} ms, at most {GOAL_P99_MS}"),
        (not goal["refused"], f"refused at the goal's load: {goal['refused']}"),
        (not after["refused"], f"refused at the goal's load after the overload: {after['refused']}"),
        (goal["submissions"]["per_second"] >= 0.95 * SUBMISSIONS,
         f"{goal['submissions']['per_second']:.1f} submissions/s, at least {0.95 * SUBMISSIONS:.1f}"),
        (twice["served"] >= GOAL_COLLAPSE * peak, f"{twice['served']:.0f}/s served at twice the limit, the peak is {peak:.0f}"),
        (set(beyond["refused"]) <= polite, f"refused otherwise than by 429 or 503: {beyond['refused']}"),
        (beyond["without_retry_after"] == 0, f"{beyond['without_retry_after']} refusals without Retry-After"),
    ]
    return [words for is_met, words in checks if not is_met]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=60, help="of the stage at the goal's load; the others last half")
    parser.add_argument("--plot", type=pathlib.Path, default=HERE.parent.parent / "docs/measurements/pool-load.svg")
    options = parser.parse_args()
    sandbox = harness.Sandbox()
    try:
        load = Load(sandbox, options.agents, cores=sorted(os.sched_getaffinity(0))[:2])
        kb = (resident_kb(load.pid) - load.empty_kb) / options.agents
        print(f"{options.agents} agents connected and enrolled in {load.connected['seconds']:.1f} s, "
              f"{kb:.0f} KB of the pool's memory each\n\n{HEADER}", flush=True)
        goal = shown(load.stage(1, options.seconds))
        reports = ramp(load, options.seconds / 2)
        closer, limit = close_in(load, options.seconds / 2, reports)
        twice = shown(load.stage(2 * limit, options.seconds / 2))
        reports += [*closer, twice]
        peak = max(report["served"] for report in reports)
        beyond = shown(load.stage(2 * peak / (LEASES + SUBMISSIONS), options.seconds / 2))
        after = shown(load.stage(1, options.seconds / 2))
        print(f"\nlimit {limit * (LEASES + SUBMISSIONS):.0f} a second, peak {peak:.0f}; at twice the limit "
              f"{twice['served'] / peak:.0%} of the peak, at twice the peak {beyond['served'] / peak:.0%}", flush=True)
        plot([goal, *reports, beyond], peak, options.plot)
    finally:
        sandbox.close(keep=False)
    missed = missed_goals(kb, goal, twice, beyond, peak, after)
    print("\n".join(f"MISSED: {words}" for words in missed) or "every goal is met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
