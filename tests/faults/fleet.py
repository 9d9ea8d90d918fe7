"""A pool and three agents that work on jobs while they are killed, and what must be true of them afterwards."""

import contextlib
import hashlib
import http.client
import json
import math
import signal
import sqlite3
import time

import power
from faults import Faults, harness

ACCOUNTS = {"rig-a": "ann", "rig-b": "ann", "rig-c": "ben"}
JOB = dict(units=3, lanes=2, steps=10, batch=8, context=32, codec="int4", evaluate_every=2, evaluate_rows=8,
           check_share=0.5)
TEXT = harness.generated_text(60_000)
# What an agent may end with by itself: no pool answered while it started.
UNREACHABLE = 4


class Victim:
    """A program that is started again whenever it died."""

    def __init__(self, name, side, faults):
        self.name, self.side, self.faults = name, side, faults
        self.process = None
        self.armed = None  # the step that it should die at
        self.since = 0     # when it was armed
        self.patience = 5  # seconds until the step is given up
        self.restarted = False  # since then, because it did not reach the step
        self.told = True        # to stop, where that leads to the step
        self.survives = lambda: power.nothing  # what a power cut leaves; None: it was killed, and all is left

    def bury(self):
        """Looks at how it ended, if it did; where the disk is a layer's, its machine may have lost power."""
        if self.process is None or self.process.running():
            return
        code = self.process.popen.returncode
        allowed = {-signal.SIGKILL, 0} | ({UNREACHABLE} if self.side == "agent" else set())
        if code not in allowed:
            raise AssertionError(f"{self.name} ended with {code}:\n{self.process.log()[-3000:]}")
        survives = self.survives() if self.faults.disk else None
        if survives:
            power.cut(self.faults, survives)
            if self.at_its_step():
                self.faults.cuts[self.armed] += 1
        if self.at_its_step():
            self.disarm()
        self.process = None

    def revive(self):
        """Starts it if it does not run."""
        self.bury()
        if self.process is None:
            self.launch()

    def at_its_step(self):
        """Whether it reached the step that it should die at."""
        return self.armed is not None and self.faults.countdown() == 0

    def arm(self, step, nth=1):
        self.faults.arm(step, nth)
        self.armed, self.since, self.restarted, self.told = step, time.monotonic(), False, True

    def die(self, timeout=60):
        """Waits until it is dead."""
        assert self.process.wait(timeout) == -signal.SIGKILL, f"{self.name} did not die {self.armed}"

    def stop_soon(self):
        """It will be told to stop once it is at work."""
        self.told = False

    def tell(self):
        if not self.told and self.process and self.process.running() and self.busy():
            self.process.signal(signal.SIGTERM)
            self.told = True

    def disarm(self):
        self.faults.disarm()
        self.armed, self.told = None, True


class PoolVictim(Victim):
    def __init__(self, pool, faults):
        super().__init__("pool", "pool", faults)
        self.pool = pool

    def launch(self):
        self.pool.launch(env=self.faults.env)
        self.process = self.pool.server

    def busy(self):
        return (self.pool.data / "serve.json").exists()


class AgentVictim(Victim):
    def __init__(self, agent, faults):
        super().__init__(agent.name, "agent", faults)
        self.agent = agent
        agent.env.update(faults.env)

    def launch(self):
        self.process = self.agent.start().process

    def busy(self):
        return "planned memory" in self.process.log()


class Fleet:
    """With `disk` the layers note what a power cut would leave; `no_sync` has a sync of each side that makes nothing
    durable. `job` and `model` are what its jobs train."""

    def __init__(self, sandbox, name, rigs=ACCOUNTS, disk=False, no_sync=None, job=JOB, model=None):
        self.job, self.pool = job, harness.Pool(sandbox, name)
        self.sandbox, self.disk, self.no_sync = sandbox, disk, no_sync or {}
        faults = Faults(self.pool.data, disk, self.no_sync.get("pool"))
        self.server = PoolVictim(self.pool, faults)
        self.settings = sandbox.folder / "agent.json"
        self.settings.write_text(json.dumps({"retry-pause": 0.1}))
        self.tokens = {account: json.loads(self.command("account", "create", account, "--json").stdout)["token"]
                       for account in sorted(set(ACCOUNTS.values()))}
        self.text, self.config = sandbox.folder / "text.txt", sandbox.folder / "model.json"
        self.text.write_text(TEXT)
        self.config.write_text(json.dumps(model or harness.Pool.TINY_MODEL))
        self.command("dataset", "import", "text", "--text", self.text)
        self.pool.start(env=faults.env)
        self.server.process = self.pool.server
        self.agents = [self.agent(f"{name}-{rig}", account) for rig, account in rigs.items()]
        self.victims = [self.server, *self.agents]

    def agent(self, name, account, disk=False):
        agent = harness.Agent(self.pool, name, account, self.tokens[account], extra=["-c", self.settings])
        return AgentVictim(agent, Faults(agent.data, self.disk or disk, self.no_sync.get("agent")))

    def command(self, *arguments, expect=0):
        """A command of gradpool in the server's layer; it is not killed."""
        return self.pool.cli(*arguments, expect=expect, env=self.server.faults.unarmed())

    def job_command(self, name, rounds):
        options = [f"--{key.replace('_', '-')}={value}" for key, value in {**self.job, "rounds": rounds}.items()]
        return ["job", "create", name, "--dataset", "text", "--config", self.config, *options]

    def create_job(self, name, rounds):
        self.command(*self.job_command(name, rounds))

    def query(self, sql, *values):
        """Rows of the pool's store, while the server runs."""
        with sqlite3.connect(f"file:{self.pool.data}/gradpool.db?mode=ro", uri=True, timeout=30) as db:
            rows = db.execute(sql, values).fetchall()
        db.close()
        return rows

    def done(self, job):
        shown = json.loads(self.command("job", "show", job, "--json").stdout)
        if shown["state"] not in ("running", "completed"):
            raise AssertionError(f"job {job} is {shown['state']}: {shown['detail']}")
        return shown["state"] == "completed"

    def knock(self, job):
        """A look at the first record from outside, like anyone's; the pool may be dead."""
        with contextlib.suppress(OSError, AssertionError, http.client.HTTPException):
            self.pool.get(f"/v1/jobs/{job}/records/0")

    def finish(self, job, timeout):
        """Everyone lives from now on; until the job is done."""
        for victim in self.victims:
            victim.disarm()

        def done():
            for victim in self.victims:
                victim.revive()
            return self.server.busy() and self.done(job)  # it serves again
        harness.wait_for(f"job {job} to end in peace", done, timeout)

    # --- what must be true ---

    def check(self, jobs, rounds, digests):
        """After the jobs' end, with everyone alive: nothing lost, nothing counted twice, the same weights."""
        for job in jobs:
            weights = self.pool.weights_digests(job, rounds)
            assert weights == digests, f"{job}: the weights are not those of the undisturbed run"
            self.check_units(job, rounds)
        for agent in self.agents:  # a new start fetches what is new
            agent.process.stop()
            agent.revive()
        paid = sum(self.check_receipts(agent) for agent in self.agents)
        self.check_books(paid)
        for agent in self.agents:
            assert agent.process.stop() == 0, agent.process.log()
        assert self.pool.server.stop() == 0, self.pool.server.log()

    def check_units(self, job, rounds):
        """Each unit of the plan is there and counted once; paid once more, to another account, where that checked it
        (a copy that came late checks it, too, and is not paid)."""
        counted = self.query(
            "SELECT u.name, u.kind, count(r.id), count(DISTINCT r.account), (SELECT count(*) FROM checks c WHERE "
            "c.unit = u.id AND c.state = 'passed') FROM units u LEFT JOIN results r ON r.unit = u.id AND r.outcome = "
            "'accepted' WHERE u.job = ? GROUP BY u.id", job)
        for name, _, results, accounts, checked in counted:
            assert results == accounts and 1 <= results <= 1 + checked, f"{name} was paid {results} times"
        trained = [name for name, kind, *_ in counted if kind == "train"]
        assert len(trained) == rounds * self.job["units"], f"{len(trained)} units of {rounds} rounds"
        tokens = math.prod(self.job[factor] for factor in ("units", "lanes", "steps", "batch", "context"))
        for number in range(rounds):
            assert self.pool.record(job, number)["tokens"] == tokens, f"round {number} of {job} counted other units"

    def check_receipts(self, agent):
        """The agent keeps exactly the receipts and settlements that the pool gave it. What the pool owes for them."""
        documents = agent.agent.data / "receipts"
        key = self.query("SELECT hex(key) FROM rigs WHERE rig_id = ?", agent.name)
        assert len(key) == 1, f"{agent.name} has {len(key)} keys"

        def kept(pattern):
            return sorted(file.read_text() for file in documents.rglob(pattern))

        def given(table):
            column = "receipt" if table == "results" else "document"
            return sorted(row[0] for row in self.query(f"SELECT {column} FROM {table} WHERE hex(key) = ?", key[0][0]))
        harness.wait_for(f"{agent.name} to send all and fetch its settlements",
                         lambda: not list((agent.agent.data / "outbox").glob("*/*/submission.json")) and
                         len(kept("settlements/*.json")) >= len(given("settlements")), 60)
        receipts = kept("*.receipt.json")
        assert receipts == given("results"), f"{agent.name} keeps other receipts than the pool gave"
        assert kept("settlements/*.json") == given("settlements"), f"{agent.name} keeps other settlements"
        return sum(int(json.loads(receipt)["price"]) for receipt in receipts)

    def check_books(self, paid):
        balances = json.loads(self.command("ledger", "--json").stdout)["balances"]
        assert sum(balances.values()) == 0, f"the books do not sum to zero: {balances}"
        accounts = sum(amount for name, amount in balances.items() if name.startswith("account:"))
        held = sum(abs(amount) for name, amount in balances.items() if name.startswith(("escrow:", "job:")))
        assert (accounts, held) == (paid, 0), f"the agents' receipts say {paid}: {balances}"


def rows(folder, sql, file="gradpool.db"):
    db = sqlite3.connect(folder / file)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def check_store(folder, results=0, rounds=0):
    """The store is sound, and every file that it speaks of is there, whole."""
    assert rows(folder, "PRAGMA integrity_check") == [("ok",)]
    for digest, size in rows(folder, "SELECT lower(hex(digest)), bytes FROM blobs WHERE digest IN referenced_blobs"):
        content = (folder / "blobs" / digest[:2] / digest).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (digest, size), f"blob {digest[:8]} is damaged"
    counted = rows(folder, "SELECT count(*) FROM results")[0][0]
    assert counted >= results, f"{counted} of {results} results"
    closed = rows(folder, "SELECT coalesce(max(rounds_done), 0) FROM jobs")[0][0]
    assert closed >= rounds, f"{closed} of {rounds} rounds"
    assert rows(folder, "SELECT coalesce(sum(amount), 0) FROM ledger_balances") == [(0,)]


def disturb(fleet, choose, finished):
    """Until finished(); choose(victim) arms or kills who is not armed. A step that a program does not reach soon may be
    one of its first: it is started again. If that does not help the next one is chosen."""
    soon = 1.5  # seconds
    while not finished():
        for victim in fleet.victims:
            if victim.at_its_step():
                victim.die()
            victim.bury()
            waited = time.monotonic() - victim.since
            if victim.armed is None or waited > victim.patience:
                victim.disarm()
                choose(victim)  # before it lives again: its first steps are soon over
            elif victim.process and waited > soon and victim.told and not victim.restarted:
                victim.restarted = True
                victim.process.kill()
            victim.revive()
            victim.tell()
        time.sleep(0.01)
