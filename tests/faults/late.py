"""A rig whose result comes too late: it died when it had uploaded, its lease was given back, another rig did the unit.
The steps of the pool that only such a submission reaches; by chance they come once in minutes."""

import json

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from faults import harness
from fleet import JOB, Fleet

import wire

STEPS = [f"{when} unlink uploads/*-*" for when in ("before", "after")]
ROUNDS = 12  # of its jobs, at most


class Late:
    def __init__(self, sandbox, steps, rounds, patience):
        self.fleet = Fleet(sandbox, "late", job={**JOB, "check_share": 0})  # a check would not come too late
        steps.watch(self.fleet)
        self.rounds, self.patience, self.jobs = min(rounds, ROUNDS), patience, []

    def die_at_steps(self, times, digests, say):
        """times(steps): the steps that the pool dies at, in order."""
        died = times(STEPS)
        for step in died:
            self.pool_dies(step)
        for job in self.jobs:
            self.fleet.finish(job, self.patience)
        self.fleet.check(self.jobs, self.rounds, digests[:self.rounds])
        say(f"late results: died {len(died)} times")

    def pool_dies(self, step):
        server, victim = self.fleet.server, self.fleet.agents[0]
        self.go_on_until(f"{victim.name} to have nothing left to send", lambda: not self.waiting(victim))
        victim.arm("before send POST /v1/submissions")
        self.go_on_until(f"{victim.name} to have a result", victim.at_its_step)
        victim.die()
        victim.bury()
        submission = self.give_back(victim)
        self.go_on_until("another rig to do the unit", lambda: self.is_done(submission["unit"]), without=victim)
        server.arm(step)
        victim.revive()
        self.go_on_until(f"the pool to die {step}", server.at_its_step, without=server)
        server.die()
        server.revive()

    def waiting(self, victim):
        return list((victim.agent.data / "outbox").glob("*/*/submission.json"))

    def give_back(self, victim):
        """Gives the dead rig's lease back, in its name. Its submission."""
        submission = json.loads(json.loads(self.waiting(victim)[0].read_text())["submission"])
        key = load_pem_private_key((victim.agent.data / "key.pem").read_bytes(), None)
        rig = wire.Client(self.fleet.pool.url, self.fleet.sandbox.ca, key)
        status, answer = rig.call("POST", f"/v1/leases/{submission['lease']}/release", {"reason": "dead"})
        assert status == 200, answer
        return submission

    def is_done(self, unit):
        return self.fleet.query("SELECT count(*) FROM units WHERE name = ? AND accepted IS NOT NULL", unit)[0][0] > 0

    def go_on_until(self, what, condition, without=None):
        """Jobs go on, and whoever died lives again."""
        def look():
            for victim in self.fleet.victims:
                if victim is not without and not victim.at_its_step():
                    victim.revive()
            if not condition():
                if not self.jobs or self.fleet.done(self.jobs[-1]):
                    self.jobs.append(f"job-{len(self.jobs)}")
                    self.fleet.create_job(self.jobs[-1], self.rounds)
                return False
            return True
        harness.wait_for(what, look, 120)
