"""Kill anything, any time: pool and agents die at every step that has a name, and at random moments, over jobs of real
training, or their machines lose power. Afterwards every unit is counted once, the books agree with the receipts, and
the weights are those of the undisturbed run.

usage: kill_test.py [--seed N] [--each N] [--cuts N] [--some N] [--random N] [--one-job] [--power N] [--rounds N]
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
from commands import Commands
from faults import Faults, harness, sandbox
from fleet import Fleet, disturb
from late import Late

# Steps that a program reaches only when it is new; in a command of the pool's operator (commands.py); when it is told
# to stop.
FIRST = {"pool": r"db-journal|fsync blobs$|fsync \.$|pool\.key|commit schema",
         "agent": r"(key|new)\.pem|fsync \.$| pools\b"}
COMMAND = {"pool": r"commit (accounts|datasets shards|jobs weights)$", "agent": r"$^"}
LAST = {"pool": r"unlink serve\.json|unlink gradpool\.db-(shm|wal)|fsync gradpool\.db$",
        "agent": r"/release$"}
KINDS = {"first": FIRST, "command": COMMAND, "last": LAST}
SIDES = ("pool", "agent")


class Steps:
    """The steps of a side and how often a program of it died at each."""

    def __init__(self):
        self.known = {side: [] for side in SIDES}
        self.causes = {}  # (side, step) that a fault was needed for: how often the program had died before, at which step
        self.peaceful = set()  # (side, step) that no fault was needed for
        self.first = None  # those that new programs died at, as soon as they did; who comes later is steady
        self.tries = collections.Counter()
        self.watched = {side: [] for side in SIDES}  # the layers of all programs

    def watch(self, fleet):
        for victim in fleet.victims:
            self.watched[victim.side].append(victim.faults)

    def learn(self):
        """What was reached meanwhile. The new steps."""
        new, unprovoked = [], set()
        self.causes = collections.defaultdict(collections.Counter)
        for side, layers in self.watched.items():
            known = set(self.known[side])
            for layer in layers:
                died = None
                for line in layer.lines():
                    if line.startswith("KILL "):
                        died = line[len("KILL "):]
                        continue
                    if died is None:
                        unprovoked.add((side, line))
                    elif self.late(side, line):
                        self.causes[side, line][died] += 1
                    if line not in known:
                        known.add(line)
                        new.append((side, line))
                        self.known[side].append(line)
        for step in unprovoked:
            self.causes.pop(step, None)
        return new

    def way_to(self, side, step, draw=None):
        """Steps to die at one after the other, the last of which is `step`. Where many programs die at once, what came
        before a step may have nothing to do with it: with `draw`, what did often comes often, and sometimes nothing."""
        way = [step]
        while (side, way[0]) in self.causes and len(way) < 5 and (draw is None or draw.random() < 0.7):
            causes = self.causes[side, way[0]]
            way.insert(0, draw.choices(list(causes), causes.values())[0] if draw else next(iter(causes)))
        return way

    def deaths(self, side):
        """(killed, cut off) at each step."""
        cuts = sum((layer.cuts for layer in self.watched[side]), collections.Counter())
        return sum((layer.kills() for layer in self.watched[side]), collections.Counter()) - cuts, cuts

    def of(self, side, *kinds):
        """kinds: first, command, last, or steady for all others."""
        def kind_of(step):
            found = [kind for kind, steps in KINDS.items() if re.search(steps[side], step)]
            if not found or found[0] == "first" and self.first is not None and (side, step) not in self.first:
                return "steady"
            return found[0]
        return [step for step in self.known[side] if kind_of(step) in kinds]

    def late(self, side, step):
        """Whether it was reached only after a fault. Chance has a part in it, so it does not matter whether a program
        was killed there or its power was cut."""
        return (side, step) not in self.peaceful

    def print_table(self, each, cuts):
        """How often a program died at each step. The steps that it was too seldom."""
        self.learn()
        missed = []
        for side in SIDES:
            kills, cut = self.deaths(side)
            known, moving = self.of(side, "first", "steady", "last"), self.of(side, "steady", "last")
            print(f"{side}: killed before and after, power cut before and after (*: only after a fault)")
            for call in dict.fromkeys(step.split(" ", 1)[1] for step in known):
                both = [f"{when} {call}" for when in ("before", "after")]
                late = any(self.late(side, step) for step in both)
                columns = [counts[step] if step in known else "-" for counts in (kills, cut) for step in both]
                print("  " + " ".join(f"{column:>5}" for column in columns), call + (" *" if late else ""))
                for step in both:
                    wanted = (each, 0) if self.late(side, step) else (each, cuts if step in moving else 0)
                    if step in known and (kills[step] + cut[step] < sum(wanted) or cut[step] < wanted[1]):
                        missed.append(f"{side}: {step}")
        return missed


class Run:
    def __init__(self, sandbox, options):
        self.options, self.sandbox = options, sandbox
        self.draw = random.Random(options.seed)
        self.steps = Steps()
        self.digests = self.commands = None
        self.patience = 300 + 2 * options.rounds  # seconds for a job in peace

    def say(self, text):
        print(f"[{time.monotonic() - BEGIN:6.1f} s] {text}", flush=True)

    def undisturbed(self):
        fleet = Fleet(self.sandbox, "peace")
        self.steps.watch(fleet)
        fleet.create_job("job-a", self.options.rounds)
        fleet.finish("job-a", self.patience)
        self.digests = fleet.pool.weights_digests("job-a", self.options.rounds)
        fleet.check(["job-a"], self.options.rounds, self.digests)
        self.steps.peaceful = set(self.steps.learn())
        self.commands = Commands(self.sandbox, fleet, "job-a")
        self.say(f"undisturbed: {self.options.rounds} rounds, {len(self.steps.known['pool'])} steps of the pool, "
                 f"{len(self.steps.known['agent'])} of the agent")

    # --- steps of a program that is new ---

    def first_starts(self, times):
        """times(steps): the steps to die at, in order."""
        fleet = Fleet(self.sandbox, "first")
        self.steps.watch(fleet)
        number, tried = 0, set()
        for side, new_one_dies in (("agent", self.new_agent_dies), ("pool", self.new_pool_dies)):
            while steps := [step for step in self.steps.of(side, "first") if (side, step) not in tried]:
                for step in times(steps):
                    new_one_dies(fleet, f"new-{side}-{number}", self.steps.way_to(side, step))
                    number += 1
                tried |= {(side, step) for step in steps}
                self.steps.learn()
        self.steps.first = tried
        fleet.server.process.stop()
        self.say(f"first starts: died {number} times")

    def new_agent_dies(self, fleet, name, way):
        victim = fleet.agent(name, "ann")
        self.steps.watched["agent"].append(victim.faults)
        for step in way:
            victim.arm(step)
            victim.launch()
            victim.die()
        victim.launch()
        harness.wait_for(f"{name} to connect after dying {way}", lambda: "connected to" in victim.process.log(), 60)
        assert victim.process.stop() == 0, victim.process.log()

    def new_pool_dies(self, fleet, name, way):
        pool = harness.Pool(self.sandbox, name)
        faults = Faults(pool.data)
        self.steps.watched["pool"].append(faults)
        for step in way:
            faults.arm(step)
            died = pool.cli("account", "create", "ann", env=faults.env, expect=None)
            assert died.returncode == -signal.SIGKILL, way
        pool.cli("account", "create", "ben", env=faults.env)

    # --- while jobs run ---

    def disturbed(self, name, choose, enough, survives=None):
        """Jobs, one after the other, until there was enough; how many. survives(victim) is what is left of a disk."""
        fleet = Fleet(self.sandbox, name, disk=survives is not None)
        self.steps.watch(fleet)
        for victim in fleet.victims:
            victim.survives = lambda victim=victim: survives(victim)
        jobs, looked, done = [], 0, False

        def finished():
            nonlocal looked, done
            if time.monotonic() - looked < 0.5:
                return done
            looked, done = time.monotonic(), enough()
            if jobs:
                fleet.knock(jobs[-1])
            if not done and (not jobs or fleet.done(jobs[-1])):
                jobs.append(f"job-{len(jobs)}")
                fleet.create_job(jobs[-1], self.options.rounds)
            return done
        disturb(fleet, choose, finished)
        for job in jobs:
            fleet.finish(job, self.patience)
        fleet.check(jobs, self.options.rounds, self.digests)
        self.say(f"{name}: {len(jobs)} jobs of {self.options.rounds} rounds")
        return len(jobs)

    def power_cut(self, _=None):
        return self.draw.choice([power.nothing, power.names, power.by_chance(self.draw)])

    def at_steps(self, wanted, spare=0):
        """wanted(): (side, step): how often to be killed and cut off there; steps that are out of reach come later, and
        so many of a side need not come."""
        each = {}
        ways = collections.defaultdict(list)  # of each victim: where it dies next

        def left(side):
            kills, cuts = self.steps.deaths(side)

            def is_left(step, killed, cut):
                if self.steps.late(side, step):
                    return kills[step] + cuts[step] < killed
                return kills[step] < killed or cuts[step] < cut
            return [step for (whose, step), n in each.items() if whose == side and is_left(step, *n)]

        def survives(victim):
            kills, cuts = self.steps.deaths(victim.side)
            killed, cut = each.get((victim.side, victim.armed), (0, 0))
            if not victim.at_its_step() or kills[victim.armed] > killed and cuts[victim.armed] >= cut:
                return self.draw.choice([None, self.power_cut()])
            return None if kills[victim.armed] <= killed else self.power_cut()  # so far this death is one of the kills

        def choose(victim):
            way = ways[victim.name]
            if not way:
                # Who is through goes on: the other side's last steps may need agents that stop or die.
                todo = left(victim.side) or [step for side, step in each if side == victim.side]
                if not todo:
                    return
                least = min(self.steps.tries[victim.side, step] for step in todo)
                step = self.draw.choice([step for step in todo if self.steps.tries[victim.side, step] == least])
                kills, cuts = self.steps.deaths(victim.side)
                in_vain = self.steps.tries[victim.side, step] - kills[step] - cuts[step]
                self.steps.tries[victim.side, step] += 1
                self.say(f"{victim.name}: {step}")
                way += self.steps.way_to(victim.side, step, self.draw)
                may_come = len(way) > 1 or (victim.side, step) not in self.steps.causes
                victim.patience = min(5 * max(1, in_vain), 60) if may_come else 5  # some come once in a job
            step = way.pop(0)
            victim.arm(step)
            if re.search(LAST[victim.side], step):
                victim.stop_soon()
        begin = time.monotonic()

        def enough():
            each.update(wanted())
            missing = {side: left(side) for side in SIDES}
            if time.monotonic() - begin > self.options.limit:
                raise AssertionError(f"not reached in {self.options.limit} s: {missing}")
            return all(len(steps) <= spare for steps in missing.values())
        self.disturbed("steps", choose, enough, survives if self.options.cuts else None)

    def all_steps(self):
        """Those that were reached so far."""
        for side, step in self.steps.learn():
            self.say(f"{side}: {step} is new")
        return {(side, step): (self.options.each, self.options.cuts)
                for side in SIDES for step in self.steps.of(side, "steady", "last")}

    def at_some_steps(self, some):
        """Twice as many are drawn: who meets whom, and thereby some step, is up to chance."""
        drawn = {(side, step): (1, 0) for side in SIDES
                 for step in self.draw.sample(self.steps.of(side, "steady"), 2 * some)}
        self.at_steps(lambda: drawn, spare=some)

    def at_random(self, name, kills, survives=None, one_job=False):
        """Each of the four programs lives for a random time; with `survives` it is the power that fails."""
        done = 0
        until = {}

        def choose(victim):
            nonlocal done
            if victim.name not in until:
                until[victim.name] = time.monotonic() + self.draw.uniform(0.05, 2)
            elif time.monotonic() > until[victim.name] and done < kills and victim.process:
                victim.process.kill()
                done += 1
                del until[victim.name]
        jobs = self.disturbed(name, choose, lambda: done >= kills, survives)
        self.say(f"{name}: {done} at random moments")
        assert jobs == 1 or not one_job, f"{jobs} jobs; one of more than {self.options.rounds} rounds is asked for"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, default=0, help="kills at each step")
    parser.add_argument("--cuts", type=int, default=0, help="power cuts at each step")
    parser.add_argument("--some", type=int, default=8, help="kills at steps that the seed draws, where --each is 0")
    parser.add_argument("--random", type=int, default=8, help="kills at random moments")
    parser.add_argument("--one-job", action="store_true", help="all of these over one job")
    parser.add_argument("--power", type=int, default=2, help="power cuts at random moments")
    parser.add_argument("--rounds", type=int, default=4, help="of each job")
    parser.add_argument("--limit", type=int, default=3600, help="seconds for the kills at steps")
    options = parser.parse_args()
    with sandbox(options.seed) as place:
        run = Run(place, options)
        run.undisturbed()

        def times(some):
            return lambda steps: steps * options.each if options.each else run.draw.sample(steps, min(some, len(steps)))
        run.first_starts(times(2))
        run.commands.die_at_steps(times(1), run.say)
        Late(place, run.steps, options.rounds, run.patience).die_at_steps(times(1), run.digests, run.say)
        if options.random:
            run.at_random("kills", options.random, one_job=options.one_job)
        if options.power:
            run.at_random("power-cuts", options.power, run.power_cut)
        if options.each:
            run.at_steps(run.all_steps)
        else:
            run.at_some_steps(options.some // 2)
        missed = run.steps.print_table(options.each, options.cuts)
        assert not missed, f"too few kills at {missed}"


if __name__ == "__main__":
    BEGIN = time.monotonic()
    main()
