"""Kill anything, any time: pool and agents die at every step that has a name, and at random moments, over jobs of real
training, or their machines lose power. Afterwards every unit is counted once, the books agree with the receipts, and
the weights are those of the undisturbed run.

usage: kill_test.py [--seed N] [--each N] [--some N] [--random N] [--power N] [--rounds N]
The defaults are the short part that `./quickstart test` runs; run.sh gives the whole.
"""

import argparse
import collections
import random
import re
import signal
import sys
import time

import power
from faults import Faults, harness, sandbox
from fleet import Fleet, disturb

# Steps that a program reaches only when it is new; in a command of the pool's operator; when it is told to stop.
FIRST = {"pool": r"db-journal|fsync blobs$|fsync \.$|pool\.key|commit refusals",
         "agent": r"(key|new)\.pem|fsync \.$| pools\b"}
COMMAND = {"pool": r"commit (accounts|datasets|jobs)", "agent": r"$^"}
LAST = {"pool": r"unlink serve\.json|unlink gradpool\.db-(shm|wal)|fsync gradpool\.db$",
        "agent": r"/release$"}
KINDS = {"first": FIRST, "command": COMMAND, "last": LAST}


class Steps:
    """The steps of a side and how often a program of it died at each."""

    def __init__(self):
        self.known = {"pool": [], "agent": []}
        self.tries = collections.Counter()
        self.watched = {"pool": [], "agent": []}  # the layers of all programs

    def watch(self, fleet):
        for victim in fleet.victims:
            self.watched[victim.side].append(victim.faults)

    def learn(self):
        for side, layers in self.watched.items():
            self.known[side] = list(dict.fromkeys(step for layer in layers for step in layer.steps()))

    def kills(self, side):
        return sum((layer.kills() for layer in self.watched[side]), collections.Counter())

    def of(self, side, kind):
        """kind: first, command, last, or steady for all others."""
        def kind_of(step):
            kinds = [kind for kind, steps in KINDS.items() if re.search(steps[side], step)]
            return kinds[0] if kinds else "steady"
        return [step for step in self.known[side] if kind_of(step) == kind]

    def print_table(self, each):
        """How often a program died at each step. The steps that it was too seldom."""
        missed = []
        for side in self.known:
            kills = self.kills(side)
            print(f"{side}: kills at each step, before and after")
            for call in dict.fromkeys(step.split(" ", 1)[1] if " " in step else step for step in self.known[side]):
                counts = [kills[f"{when} {call}"] if f"{when} {call}" in self.known[side] else None
                          for when in ("before", "after")]
                print("  " + " ".join(f"{'-' if count is None else count:>5}" for count in counts), call)
                missed += [f"{side}: {call}" for count in counts if count is not None and count < each]
        return missed


class Run:
    def __init__(self, sandbox, options):
        self.options, self.sandbox = options, sandbox
        self.draw = random.Random(options.seed)
        self.steps = Steps()
        self.digests = None
        self.jobs = 0

    def say(self, text):
        print(f"[{time.monotonic() - BEGIN:6.1f} s] {text}", flush=True)

    def undisturbed(self):
        fleet = Fleet(self.sandbox, "peace")
        self.steps.watch(fleet)
        fleet.create_job("job-a", self.options.rounds)
        fleet.finish("job-a", 300)
        self.digests = fleet.pool.weights_digests("job-a", self.options.rounds)
        fleet.check(["job-a"], self.options.rounds, self.digests)
        self.steps.learn()
        self.say(f"undisturbed: {self.options.rounds} rounds, {len(self.steps.known['pool'])} steps of the pool, "
                 f"{len(self.steps.known['agent'])} of the agent")

    # --- steps of a program that is new ---

    def first_starts(self, times):
        """times(side, steps): the steps to die at, in order."""
        fleet = Fleet(self.sandbox, "first")
        self.steps.watch(fleet)
        for number, step in enumerate(times(self.steps.of("agent", "first"))):
            victim = fleet.agent(f"new-{number}", "ann")
            self.steps.watched["agent"].append(victim.faults)
            self.die_at(victim, step)
            victim.launch()
            harness.wait_for(f"{victim.name} to connect after dying {step}",
                             lambda: "connected to" in victim.process.log(), 60)
            assert victim.process.stop() == 0, victim.process.log()
        for number, step in enumerate(times(self.steps.of("pool", "first"))):
            pool = harness.Pool(self.sandbox, f"new-pool-{number}")
            faults = Faults(pool.data)
            self.steps.watched["pool"].append(faults)
            faults.arm(step)
            died = pool.cli("account", "create", "ann", env=faults.env, expect=None)
            assert died.returncode == -signal.SIGKILL, step
            pool.cli("account", "create", "ben", env=faults.env)
        fleet.server.process.stop()

    def commands(self, times):
        """Commands that die are given again; what they had done stays."""
        fleet = Fleet(self.sandbox, "commands")
        self.steps.watch(fleet)
        faults = fleet.server.faults
        exists = 7  # the exit code
        for number, step in enumerate(times(self.steps.of("pool", "command"))):
            name = f"new-{number}"
            command = {"accounts": ["account", "create", name],
                       "datasets": ["dataset", "import", name, "--text", fleet.text],
                       "jobs": fleet.job_command(name, 1)}[step.split()[2]]
            faults.arm(step)
            died = fleet.pool.cli(*command, env=faults.env, expect=None)
            assert died.returncode == -signal.SIGKILL, step
            fleet.command(*command, expect=exists if step.startswith("after") else 0)
        backup = self.sandbox.folder / "backup"
        fleet.command("backup", "--out", backup)
        harness.run([harness.binary("gradpool"), "--data", backup, "job", "list"])
        assert fleet.server.process.stop() == 0

    def die_at(self, victim, step):
        victim.arm(step)
        victim.launch()
        victim.die()

    # --- while jobs run ---

    def disturbed(self, name, choose, enough, disk=False):
        """Jobs, one after the other, until there was enough."""
        fleet = Fleet(self.sandbox, name, disk=disk)
        self.steps.watch(fleet)
        for victim in fleet.victims:
            victim.survives = lambda: self.draw.choice([power.nothing, power.names, power.by_chance(self.draw)])
        jobs, looked = [], 0

        def finished():
            nonlocal looked
            if time.monotonic() - looked > 0.5:
                looked = time.monotonic()
                if jobs:
                    fleet.knock(jobs[-1])
                if not jobs or fleet.done(jobs[-1]):
                    if enough():
                        return True
                    jobs.append(f"job-{len(jobs)}")
                    fleet.create_job(jobs[-1], self.options.rounds)
            return enough()
        disturb(fleet, choose, finished)
        for job in jobs:
            fleet.finish(job, 300)
        fleet.check(jobs, self.options.rounds, self.digests)
        self.say(f"{name}: {len(jobs)} jobs of {self.options.rounds} rounds")

    def at_steps(self, wanted):
        """wanted: how often each side should still die at its steps; steps that are out of reach come later."""
        def left(side):
            kills = self.steps.kills(side)
            return {step: n - kills[step] for (whose, step), n in wanted.items() if whose == side and kills[step] < n}

        def choose(victim):
            todo = left(victim.side)
            if not todo:
                return None
            least = min(self.steps.tries[victim.side, step] for step in todo)
            step = self.draw.choice([step for step in todo if self.steps.tries[victim.side, step] == least])
            self.steps.tries[victim.side, step] += 1
            self.say(f"{victim.name}: {step}")
            if re.search(LAST[victim.side], step):
                self.stop_soon(victim)
            return step
        begin = time.monotonic()

        def enough():
            missing = {side: left(side) for side in ("pool", "agent")}
            if time.monotonic() - begin > self.options.limit:
                raise AssertionError(f"not reached in {self.options.limit} s: {missing}")
            return not any(missing.values())
        self.disturbed("steps", choose, enough)

    def stop_soon(self, victim):
        """Asks a program to stop once it is at work."""
        end = time.monotonic() + 5
        while victim.process.running() and not victim.busy() and time.monotonic() < end:
            time.sleep(0.01)
        victim.process.signal(signal.SIGTERM)

    def at_random(self, name, kills, disk=False):
        """Each of the four programs lives for a random time; with disk it is the power that fails."""
        done = 0
        until = {}

        def choose(victim):
            nonlocal done
            if victim.name not in until:
                until[victim.name] = time.monotonic() + self.draw.uniform(0.05, 2)
            elif time.monotonic() > until[victim.name] and done < kills and victim.process.running():
                victim.process.signal(signal.SIGKILL)
                victim.process.popen.wait()
                done += 1
                del until[victim.name]
            return None
        self.disturbed(name, choose, lambda: done >= kills, disk)
        self.say(f"{name}: {done} at random moments")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, default=0, help="kills at each step")
    parser.add_argument("--some", type=int, default=8, help="kills at steps that the seed draws, where --each is 0")
    parser.add_argument("--random", type=int, default=8, help="kills at random moments")
    parser.add_argument("--power", type=int, default=0, help="power cuts at random moments")
    parser.add_argument("--rounds", type=int, default=4, help="of each job")
    parser.add_argument("--limit", type=int, default=1800, help="seconds for the kills at steps")
    options = parser.parse_args()
    with sandbox(options.seed) as place:
        run = Run(place, options)
        run.undisturbed()
        steady = {side: run.steps.of(side, "steady") + run.steps.of(side, "last") for side in ("pool", "agent")}
        if options.each:
            run.first_starts(lambda steps: [step for step in steps for _ in range(options.each)])
            run.commands(lambda steps: [step for step in steps for _ in range(options.each)])
            wanted = {(side, step): options.each for side, steps in steady.items() for step in steps}
        else:
            run.first_starts(lambda steps: run.draw.sample(steps, 2))
            run.commands(lambda steps: run.draw.sample(steps, 2))
            wanted = {(side, step): 1 for side, steps in steady.items()
                      for step in run.draw.sample(run.steps.of(side, "steady"), options.some // 2)}
        run.at_steps(wanted)
        if options.random:
            run.at_random("kills", options.random)
        if options.power:
            run.at_random("power-cuts", options.power, disk=True)
        missed = run.steps.print_table(options.each)
        assert not missed, f"too few kills at {missed}"


if __name__ == "__main__":
    BEGIN = time.monotonic()
    main()
