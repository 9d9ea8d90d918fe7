"""The power fails: what a program had told anyone is still so afterwards. Each case lets real programs come to one
moment and looks at what a power cut there can leave: nothing that was not synced; folders as they are but contents
only as synced; one file or folder that falls behind all others; chance.

usage: power_test.py [--seed N] [--mutations] [CASE...]
--mutations takes out one sync after the other, which some case must notice; run.sh does it.
"""

import argparse
import collections
import hashlib
import json
import random
import shutil
import signal
import sqlite3
import sys
import time

import power
from faults import Faults, harness, sandbox
from fleet import Fleet, check_store, rows

# Syncs that nothing of ours needs, and why no case can notice that they are missing.
JOURNAL = "SQLite's, against a database that is written in part; here a file is left as it was or as it is"
UNNAMED = "of a copy that has not got its name yet; one that was cut is none, and made anew"
CACHE = "what a cache loses is fetched again"
UNNEEDED = {"pool: fsync gradpool.db-journal": JOURNAL,
            "pool: fsync backup/gradpool.db-journal": JOURNAL,
            "pool: fsync backup/gradpool.db": UNNAMED,
            "pool: fsync backup/gradpool.db-wal": UNNAMED,
            "pool: fsync backup/gradpool.db.copy-journal": UNNAMED,
            "pool: fsync gradpool.db.schema-N.unfinished-journal": UNNAMED,
            "agent: fsync cache": CACHE,
            "agent: fsync cache/*": CACHE,
            "agent: fsync cache/*/weights": CACHE,
            "agent: fsync cache/*/blobs": CACHE,
            "agent: fsync receipts/*/settlements": "here all names of a folder fall behind, and are fetched again"}
CHANCES = 4      # cuts by chance at each moment
LAGGARDS = 40    # files or folders that fall behind alone, at most


class Scene:
    """A pool and one agent whose disks lose what is not synced."""

    def __init__(self, sandbox, number, draw, no_sync):
        self.draw, self.sandbox = draw, sandbox
        self.no_sync = no_sync
        self.name = f"scene-{number}"
        self.fleet = None
        self.results = 0       # that the pool has answered or was about to
        self.rounds = 0        # closed, as seen from outside
        self.checks = 0

    def open(self, job=True):
        self.fleet = Fleet(self.sandbox, self.name, {"rig": "ann"}, disk=True, no_sync=self.no_sync)
        self.agent, = self.fleet.agents
        if job:
            self.fleet.create_job("job", 2)
        return self.fleet

    def done(self):
        self.fleet.finish("job", 60)
        self.results, self.rounds = 8, 2

    def close(self):
        for victim in self.fleet.victims if self.fleet else []:
            if victim.process:
                victim.process.kill()

    # --- what power cuts leave ---

    def after_cuts(self, faults, check):
        """check(folder) for everything that a power cut may leave of a folder."""
        disk = power.Disk(faults)
        kinds = [("nothing unsynced", power.nothing), ("names only", power.names)]
        kinds += [(f"all but {path}", power.all_but(name)) for name, path in list(disk.unsynced().items())[:LAGGARDS]]
        kinds += [("by chance", power.by_chance(random.Random(self.draw.random()))) for _ in range(CHANCES)]
        left = faults.data.with_name(faults.data.name + ".left")
        for kind, survives in kinds:
            disk.write(left, survives)
            try:
                check(left)
            except (AssertionError, OSError, ValueError, KeyError, sqlite3.Error) as problem:
                raise AssertionError(f"after a power cut ({kind} survives): {problem}") from problem
            finally:
                shutil.rmtree(left)
            self.checks += 1

    def check_pool(self):
        key = (self.fleet.pool.data / "pool.key").read_bytes()

        def check(left):
            assert (left / "pool.key").read_bytes() == key, "the pool's key is another"
            accounts = [(name,) for name in sorted(self.fleet.tokens)]
            assert rows(left, "SELECT name FROM accounts ORDER BY name") == accounts, "an account is gone"
            check_store(left, self.results, self.rounds)
            receipts = {file.read_text() for file in self.agent.agent.data.rglob("*.receipt.json")}
            assert receipts <= {row[0] for row in rows(left, "SELECT receipt FROM results")}, "the pool lost a result"
        self.after_cuts(self.fleet.server.faults, check)

    def check_agent(self):
        """With the pool alive: what it has of this rig is in the rig's outbox or among its receipts."""
        known = self.fleet.query("SELECT lower(hex(key)) FROM rigs WHERE rig_id = ?", self.agent.name)
        digests = {row[0] for row in self.fleet.query("SELECT lower(hex(digest)) FROM results")}
        digests |= {file.name.split("-")[1] for file in (self.fleet.pool.data / "uploads").iterdir()}
        documents = [row[0] for row in self.fleet.query("SELECT document FROM settlements ORDER BY sequence")]

        def check(left):
            key = harness.run([harness.binary("gradminer"), "keygen", "--data", left]).stdout.strip()
            assert not known or key == known[0][0], "the rig's key is another than the one that it enrolled"
            pins = [json.loads(pin.read_text()) for pin in (left / "pools").glob("*.json")]
            assert pins or not known, "no pool is pinned"
            missing = digests - set(kept_results(left))
            assert not missing, f"{len(missing)} results that the pool has have neither an item nor a receipt"
            settled = [file.read_text() for file in sorted(left.glob("receipts/*/settlements/*.json"))]
            assert settled == documents[:len(settled)], "a settlement is missing between others"
            book = json.loads(harness.run([harness.binary("gradminer"), "earnings", "--json", "--data", left]).stdout)
            assert not book["problems"], book["problems"]
        self.after_cuts(self.agent.faults, check)


def kept_results(data):
    """Digests of the results that an agent's folder holds: whole items of the outbox, and signed receipts."""
    for item in (data / "outbox").glob("*/[!.]*/submission.json"):
        submission = json.loads(json.loads(item.read_text())["submission"])
        content = item.with_name("result.blob").read_bytes()
        if hashlib.sha256(content).hexdigest() == submission["result"]["digest"]:
            yield submission["result"]["digest"]
    for receipt in (data / "receipts").rglob("*.receipt.json"):
        if len(receipt.with_suffix(".sig").read_bytes()) == 64:
            yield json.loads(receipt.read_text())["result"]


# --- the moments ---

def agent_has_enrolled(scene):
    fleet = scene.open(job=False)
    scene.agent.arm("after receive answer to POST /v1/rigs")
    scene.agent.launch()
    scene.agent.die()
    scene.check_agent()
    return fleet


def agent_has_uploaded(scene):
    scene.open()
    scene.agent.arm("before send POST /v1/submissions")
    scene.agent.launch()
    scene.agent.die()
    scene.check_agent()


def agent_has_emptied_its_outbox(scene):
    scene.open()
    scene.agent.arm("after unlink outbox/*/JOB.N.uN.N", 2)
    scene.agent.launch()
    scene.agent.die()
    scene.check_agent()


def agent_takes_its_settlements(scene):
    scene.open()
    scene.done()
    scene.agent.process.stop()
    scene.agent.arm("after rename to receipts/*/settlements/*.json", 2)
    scene.agent.launch()
    scene.agent.die()
    scene.check_agent()


def agent_has_changed_its_key(scene):
    """gradminer keygen --change: the key that it told is there, and so is the one that enrols it."""
    scene.open(job=False)
    data, faults = scene.agent.agent.data, scene.agent.faults

    def key_of(folder, *options):
        return harness.run([harness.binary("gradminer"), "keygen", *options, "--data", folder],
                           env=faults.env if folder == data else {}).stdout.strip()
    key_of(data)
    first = (data / "key.pem").read_bytes()
    changed = key_of(data, "--change")

    def check(left):
        expect(key_of(left), changed)
        expect((left / "previous.pem").read_bytes(), first)
    scene.after_cuts(faults, check)


def pool_has_done_a_command(scene):
    fleet = scene.open(job=False)
    fleet.server.process.kill()
    scene.check_pool()
    fleet.create_job("job", 2)
    scene.check_pool()


def pool_answers(scene, request, nth):
    fleet = scene.open()
    fleet.server.arm(f"before send answer to {request}", nth)
    fleet.agents[0].launch()
    fleet.server.die()
    fleet.agents[0].process.kill()


def pool_answers_an_enrolment(scene):
    pool_answers(scene, "POST /v1/rigs", 1)
    scene.after_cuts(scene.fleet.server.faults,
                     lambda left: (check_store(left), expect(rows(left, "SELECT count(*) FROM rigs"), [(1,)])))


def pool_answers_a_submission(scene):
    scene.results = 3
    pool_answers(scene, "POST /v1/submissions", 3)
    scene.check_pool()


def pool_has_closed_a_round(scene):
    fleet = scene.open()
    fleet.server.arm("after commit weights updates", 2)  # its statements are prepared then
    fleet.agents[0].launch()
    fleet.server.die()
    scene.rounds = 2
    scene.check_pool()


def pool_has_stopped(scene):
    fleet = scene.open()
    fleet.agents[0].launch()
    scene.done()
    expect(fleet.agents[0].process.stop(), 0)
    expect(fleet.server.process.stop(), 0)
    scene.check_pool()


def pool_has_made_copies(scene):
    """gradpool backup and job export, into a folder that loses what is not synced."""
    fleet = scene.open()
    outside = fleet.pool.data.with_name(f"{scene.name}-outside")
    outside.mkdir()
    faults = Faults(outside, True, scene.no_sync.get("pool"))
    fleet.pool.cli("backup", "--out", outside / "backup", env=faults.env)
    fleet.pool.cli("job", "export", "job", "--out", outside / "model", env=faults.env)
    scene.copies = faults
    key = (fleet.pool.data / "pool.key").read_bytes()
    model = {file.name: file.read_bytes() for file in (outside / "model").iterdir()}

    def check(left):
        check_store(left / "backup")
        expect((left / "backup" / "pool.key").read_bytes(), key)
        expect({file.name: file.read_bytes() for file in (left / "model").iterdir()}, model)
    scene.after_cuts(faults, check)


def pool_has_migrated(scene):
    """gradpool serve on a store of the first schema: the old database is there as long as the new one is."""
    newest = rows(scene.open(job=False).pool.data, "PRAGMA user_version")
    pool = harness.Pool(scene.sandbox, f"{scene.name}-old")
    harness.make_store_1(pool.data)
    faults = scene.copies = Faults(pool.data, True, scene.no_sync.get("pool"))
    power.settle(faults)

    def check(left):
        check_store(left, results=3)
        version = rows(left, "PRAGMA user_version")
        if version == newest or ready.exists():
            expect(version, newest)
            expect(rows(left, "PRAGMA user_version", copy), [(1,)])
            expect(rows(left, "SELECT count(*) FROM results", copy), [(3,)])
    copy, ready = "gradpool.db.schema-1", pool.data / "serve.json"
    faults.arm("after commit schema")
    pool.launch(env=faults.env)
    expect(pool.server.wait(60), -signal.SIGKILL)
    scene.after_cuts(faults, check)
    pool.start(env=faults.env)
    pool.server.kill()
    scene.after_cuts(faults, check)


def expect(value, wanted):
    assert value == wanted, f"{value} instead of {wanted}"


CASES = {"agent": [agent_has_enrolled, agent_has_uploaded, agent_has_emptied_its_outbox, agent_takes_its_settlements,
                   agent_has_changed_its_key],
         "pool": [pool_has_done_a_command, pool_answers_an_enrolment, pool_answers_a_submission,
                  pool_has_closed_a_round, pool_has_stopped, pool_has_made_copies, pool_has_migrated]}


class Run:
    def __init__(self, sandbox, options):
        self.sandbox, self.options = sandbox, options
        self.scenes = 0
        self.syncs = collections.defaultdict(list)  # (side, call): the cases that reach it

    def play(self, side, case, no_sync):
        self.scenes += 1
        scene = Scene(self.sandbox, self.scenes, random.Random(f"{self.options.seed} {case.__name__}"), no_sync)
        try:
            case(scene)
        finally:
            scene.close()
            layers = [(side, scene.copies)] if hasattr(scene, "copies") else []
            layers += [(victim.side, victim.faults) for victim in scene.fleet.victims] if scene.fleet else []
            for layer_side, faults in layers if not no_sync else []:
                for step in faults.steps():
                    if step.startswith("after fsync") and layer_side == side:
                        self.syncs[side, step[len("after "):]].append(case)
        return scene

    def cases(self):
        for side, cases in CASES.items():
            for case in cases:
                if not self.options.cases or case.__name__ in self.options.cases:
                    scene = self.play(side, case, {})
                    say(f"{case.__name__}: {scene.checks} power cuts")

    def mutations(self):
        """Which case notices that a sync is missing. The syncs that none needs."""
        unnoticed = []
        for (side, call), cases in self.syncs.items():
            found = self.noticed(side, call, cases)
            reason = UNNEEDED.get(f"{side}: {call}")
            say(f"without {side}: {call}: {found or reason or 'NOT NOTICED'}")
            if not found and not reason:
                unnoticed.append(f"{side}: {call}")
        return unnoticed

    def noticed(self, side, call, cases):
        for case in cases:
            try:
                self.play(side, case, {side: call})
            except AssertionError as problem:
                return f"{case.__name__}: {str(problem).splitlines()[0][:150]}"
        return None


def say(text):
    print(f"[{time.monotonic() - BEGIN:6.1f} s] {text}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutations", action="store_true")
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()
    with sandbox(options.seed) as place:
        run = Run(place, options)
        run.cases()
        unnoticed = run.mutations() if options.mutations else []
        assert not unnoticed, f"no case notices that these are missing: {unnoticed}"


if __name__ == "__main__":
    BEGIN = time.monotonic()
    main()
