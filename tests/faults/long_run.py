"""Training for an hour with a fault every 20 seconds: first a job in peace, then the same job again and again while agents
and pool are killed, stopped, cut off, and have no room on their disks. Judged are the times of rounds, memory,
descriptors and disk (docs/measurements/long-run.md says how), and that no unit is lost or counted twice, books and
receipts agree, and every job's weights are those of the one in peace.

usage: long_run.py [--minutes 60] [--every 20] [--seed N] [--rounds N] [--out FOLDER]
Shorter runs, like the one of `./quickstart test --all`, judge only the latter: no time and no size.
"""

import argparse
import pathlib
import random
import signal
import statistics
import time

import power
import vitals
from faults import sandbox
from fleet import Fleet
from proxy import Proxy

# A round of 1 to 2 s with one thread an agent; weights of 1.4 MB.
JOB = dict(units=3, lanes=1, steps=15, batch=8, context=64, codec="int4", evaluate_every=10, evaluate_rows=16,
           check_share=0.2)
MODEL = {"model_type": "gpt2", "vocab_size": 256, "n_positions": 64, "n_embd": 96, "n_layer": 3, "n_head": 4}
RIGS = {"rig-a": "ann", "rig-b": "ben", "rig-c": "ann"}
CACHE_MB = 20
# Who may suffer what. The memory of rig-a, and of the pool after the first third, is to be followed: they are not killed.
TARGETS = {"kill": ["pool", "rig-b"], "power cut": ["rig-c"], "stop": ["pool", *RIGS], "full disk": ["pool", *RIGS],
           "cut": list(RIGS), "stall": list(RIGS), "refuse": list(RIGS)}
POOL_DIES_UNTIL = 1 / 3
JUDGED_FROM = 60  # minutes


class Fault:
    """A fault that the plan foresees; begin and end are when it came and when it was over."""

    def __init__(self, at, kind, target, seconds):
        self.at, self.kind, self.target, self.seconds = at, kind, target, seconds
        self.begin = self.end = None

    def __str__(self):
        lasts = f" for {self.seconds:.1f} s" if self.kind in ("stop", "full disk", "stall", "refuse") else ""
        return f"{self.kind}: {self.target}{lasts}"


def plan(draw, seconds, every):
    """Each kind is as likely as the others."""
    faults = []
    while (at := (len(faults) + 0.5) * every) < seconds:
        kind = draw.choice(list(TARGETS))
        spared = {"pool"} if kind == "kill" and at > POOL_DIES_UNTIL * seconds else set()
        target = draw.choice([name for name in TARGETS[kind] if name not in spared])
        faults.append(Fault(at, kind, target, draw.uniform(0.1, 0.4) * every))
    return faults


class Run:
    def __init__(self, sandbox, options):
        self.options = options
        self.draw = random.Random(options.seed)
        self.fleet = fleet = Fleet(sandbox, "pool", rigs={}, job=JOB, model=MODEL)
        fleet.settings.write_text(f'{{"cache-limit-mb": {CACHE_MB}}}')
        fleet.agents = [fleet.agent(rig, account, disk=rig in TARGETS["power cut"]) for rig, account in RIGS.items()]
        fleet.victims = [fleet.server, *fleet.agents]
        self.victims = {victim.name: victim for victim in fleet.victims}
        self.proxies = {agent.name: Proxy(fleet.pool.url) for agent in fleet.agents}
        for agent in fleet.agents:
            agent.agent.url = self.proxies[agent.name].url
            agent.survives = lambda: self.draw.choice([power.nothing, power.names, power.by_chance(self.draw)])
            agent.launch()
        self.vitals = vitals.Vitals(fleet, CACHE_MB * 1_000_000)
        self.jobs = []

    def next_job(self):
        self.jobs.append(f"job-{len(self.jobs)}")
        self.fleet.create_job(self.jobs[-1], self.options.rounds)

    def watch(self, until, dying=None):
        """Looks at everything until until(); only `dying` may not live."""
        while not until():
            self.vitals.look()
            for victim in self.fleet.victims:
                if victim is not dying and not victim.process.running():
                    raise AssertionError(f"{victim.name} ended by itself with {victim.process.popen.returncode}")
            time.sleep(0.05)

    def in_peace(self):
        self.next_job()
        self.watch(self.last_is_completed)
        say(f"in peace: {self.options.rounds} rounds")

    def disturbed(self):
        self.next_job()
        begin = time.monotonic()
        faults = plan(self.draw, self.options.minutes * 60, self.options.every)
        for fault in faults:
            self.watch_jobs(lambda: time.monotonic() >= begin + fault.at)
            fault.begin = time.monotonic()
            getattr(self, fault.kind.replace(" ", "_"))(self.victims[fault.target], fault)
            fault.end = time.monotonic()
            say(f"{fault}, over after {fault.end - fault.begin:.1f} s, round "
                f"{self.vitals.rounds.done(self.jobs[-1])} of {self.jobs[-1]}; slowest since the last fault "
                f"{self.slowest(fault.begin - self.options.every):.1f} s")
        self.watch_jobs(lambda: time.monotonic() >= begin + self.options.minutes * 60)
        self.watch(self.last_is_completed)
        return faults

    def last_is_completed(self):
        (state, detail), = self.fleet.query("SELECT state, detail FROM jobs WHERE name = ?", self.jobs[-1])
        assert state in ("running", "completed"), f"{self.jobs[-1]} is {state}: {detail}"
        return state == "completed"

    def slowest(self, since):
        return max((end - begin for begin, end in self.vitals.rounds.spans(self.jobs) if end > since), default=0)

    def watch_jobs(self, until):
        """When a job has done its rounds the next one is there before anyone lacks work."""
        def over():
            if self.vitals.rounds.done(self.jobs[-1]) == self.options.rounds and not until():
                self.next_job()
            return until()
        self.watch(over)

    # --- the faults ---

    def kill(self, victim, fault):
        victim.process.kill()
        victim.revive()  # after a power cut, where its disk is a layer's
        ready = self.fleet.pool.data / "serve.json"
        if victim.side == "pool":
            self.watch(ready.exists)
        else:
            self.watch(lambda: "self-test passed" in victim.process.log())

    power_cut = kill

    def lasts(self, fault):
        end = time.monotonic() + fault.seconds
        self.watch(lambda: time.monotonic() >= end)

    def stop(self, victim, fault):
        victim.process.signal(signal.SIGSTOP)
        self.lasts(fault)
        victim.process.signal(signal.SIGCONT)

    def full_disk(self, victim, fault):
        victim.faults.fill(True)
        self.lasts(fault)
        victim.faults.fill(False)

    def cut(self, victim, fault):
        self.proxies[victim.name].cut()

    def stall(self, victim, fault):
        proxy = self.proxies[victim.name]
        proxy.flows.clear()
        self.lasts(fault)
        proxy.flows.set()

    def refuse(self, victim, fault):
        proxy = self.proxies[victim.name]
        proxy.refuse()
        self.lasts(fault)
        proxy.accept()

    # --- the verdicts ---

    def check(self):
        """Nothing lost, nothing counted twice, the same weights in every job."""
        digests = self.fleet.pool.weights_digests(self.jobs[0], self.options.rounds)
        self.fleet.check(self.jobs, self.options.rounds, digests)
        say(f"{len(self.jobs)} jobs of {self.options.rounds} rounds: the same weights, books and receipts agree")


def report_rounds(calm, rough, faults):
    median = vitals.median(calm)

    def allowed(begin, end):
        return vitals.ROUNDS_FACTOR * median + sum(max(0, min(end, fault.end) - max(begin, fault.begin)) for fault in faults)
    late = [(begin, end) for begin, end in rough if end - begin > allowed(begin, end)]
    share = 1 - len(late) / len(rough)
    print(f"rounds in peace: {len(calm)}, median {median:.2f} s; disturbed: {len(rough)}, median "
          f"{vitals.median(rough):.2f} s, in time {100 * share:.2f}%")
    for begin, end in late:
        near = [str(fault) for fault in faults if fault.begin < end and fault.end > begin - 10]
        print(f"  late: {end - begin:.1f} s, {allowed(begin, end):.1f} allowed; {'; '.join(near) or 'no fault near'}")
    return [] if share >= vitals.ROUNDS_SHARE else [f"{100 * share:.2f}% of the rounds in time"]


def report_lives(lives):
    missed = [f"no long life of {side}" for side in ("pool", "rig-a") if side not in {life.name for life in lives}]
    for life in lives:
        slope, error = life.memory_slope()
        first, last, most = life.descriptors()
        print(f"{life.name}, {life.seconds() / 60:.0f} minutes: {life.samples[-1][1]:.1f} MB, {slope:+.2f} MB an hour "
              f"(95%: {slope - 2 * error:+.2f} to {slope + 2 * error:+.2f}); descriptors {first}, {last} at the end, at most "
              f"{most}")
        if slope > vitals.LEAKED_MB:
            missed.append(f"{life.name} grows by {slope:.2f} MB an hour")
        if last > first + vitals.LEAKED_DESCRIPTORS:
            missed.append(f"{life.name} has {last} descriptors open, {first} before")
    return missed


def report(run, faults):
    """Prints the figures. The criteria that are missed, in words."""
    seen = run.vitals
    calm, rough = seen.rounds.spans(run.jobs[:1]), seen.rounds.spans(run.jobs[1:])
    if run.options.out:
        seen.save(run.options.out, calm, rough, faults)
    missed = report_rounds(calm, rough, faults)
    missed += report_lives(seen.long_lives())
    _, blobs, database, log, cache = (max(column) for column in zip(*seen.folders.samples))
    print(f"disk, at most: blobs {blobs:.1f} MB ({run.vitals.folders.stated_blobs() / 1e6:.1f} stated at the end), database "
          f"{database:.1f}, its log {log:.1f}, cache of an agent {cache:.1f}")
    print(f"load of the machine: {statistics.fmean(load for _, load in seen.loads):.1f}")
    return missed + sorted(set(seen.folders.problems))[:5]


def say(text):
    print(f"[{time.monotonic() - BEGIN:6.1f} s] {text}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--every", type=float, default=20, help="seconds between faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=120, help="of each job")
    parser.add_argument("--out", type=pathlib.Path, help="gets plot and raw figures")
    options = parser.parse_args()
    missed = []
    with sandbox(options.seed) as place:
        run = Run(place, options)
        run.in_peace()
        faults = run.disturbed()
        if options.minutes >= JUDGED_FROM:
            missed = report(run, faults)
        run.check()
        assert not missed, "".join(f"\nMISSED: {words}" for words in missed)
    print("all as it should be")


if __name__ == "__main__":
    BEGIN = time.monotonic()
    main()
