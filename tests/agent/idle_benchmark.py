#!/usr/bin/env python3
"""Measures what gradminer costs: memory and CPU time without a lease, and memory beyond the planned buffers while it
computes. Prints the figures; exits 1 when one is above its bound.

Usage: GRADPOOL=… GRADMINER=… idle_benchmark.py [--seconds 60]
"""

import argparse
import json
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "end_to_end"))
import harness  # noqa: E402

MB = 1e6
IDLE_MEMORY, IDLE_CPU, COMPUTING_BEYOND = 60, 0.6, 60  # MB, CPU-seconds a minute, MB
BUFFERS_GO = 35  # the agent frees its buffers after 30 s without work
MODEL = {"model_type": "gpt2", "vocab_size": 256, "n_positions": 128, "n_embd": 256, "n_layer": 6, "n_head": 8}


def memory(pid, field="VmRSS"):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / MB
    raise RuntimeError(f"no {field} in /proc/{pid}/status")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def events(agent, name):
    lines = (json.loads(line) for line in agent.process.log().splitlines() if line.startswith("{"))
    return [line for line in lines if line["event"] == name]


def measure_idle(agent, seconds):
    pid = agent.process.popen.pid
    harness.wait_for("the first answer without work", lambda: events(agent, "no_work"), 60)
    time.sleep(BUFFERS_GO)
    before, begin = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    per_minute = (cpu_seconds(pid) - before) * 60 / (time.monotonic() - begin)
    return memory(pid), per_minute


def measure_computing(pool, agent):
    """The most resident memory over all units of a job, and the planned bytes."""
    pool.dataset("text", harness.generated_text(60_000))
    pool.job("job", "text", model=MODEL, rounds=3, units=1, lanes=2, steps=4, batch=16, context=128, evaluate_every=1000,
             evaluate_rows=8)
    pathlib.Path(f"/proc/{agent.process.popen.pid}/clear_refs").write_text("5")  # VmHWM starts anew
    pool.wait_job("job", timeout=400)
    planned = max(event["planned_bytes"] for event in events(agent, "unit")) / MB
    return memory(agent.process.popen.pid, "VmHWM"), planned


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="how long the idle agent is watched")
    seconds = parser.parse_args().seconds
    sandbox = harness.Sandbox()
    try:
        pool = harness.Pool(sandbox).start()
        agent = harness.Agent(pool, "rig", "ann", pool.account("ann"), threads=2, extra=["--json"]).start()
        idle_memory, idle_cpu = measure_idle(agent, seconds)
        peak, planned = measure_computing(pool, agent)
        agent.stop()
    finally:
        sandbox.close(keep=False)
    rows = [("idle: resident memory, MB", idle_memory, IDLE_MEMORY),
            ("idle: CPU-seconds a minute", idle_cpu, IDLE_CPU),
            (f"computing: resident beyond the planned {planned:.0f} MB, MB", peak - planned, COMPUTING_BEYOND)]
    for name, value, bound in rows:
        print(f"{name:<60} {value:8.2f}   at most {bound:g}{'' if value <= bound else '   TOO MUCH'}")
    return 0 if all(value <= bound for _, value, bound in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
