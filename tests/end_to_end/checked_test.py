"""Checked: rigs that submit garbage, a stale copy or another's result are found by repetition, paid nothing and barred,
while the honest earn on and the job ends. The cheats share no code with gradminer (wire.py)."""

import json
import threading
import time
import unittest

import harness
import wire
from replay import replay

ROUNDS, UNITS = 10, 3
HONEST = ("ann", "ben", "cat")


class Cheat(threading.Thread):
    """Takes train units and answers each with forge(lease) = (result, segments_root, honest) until it is barred."""

    def __init__(self, pool, name, token, forge):
        super().__init__(daemon=True, name=name)
        self.client = wire.Client(pool.url, pool.sandbox.ca)
        status, answer = self.client.enrol(name, token, name)
        assert status == 200, answer
        self.forge, self.ended = forge, threading.Event()
        self.honest, self.false = [], []  # receipts
        self.barred = None

    def run(self):
        try:
            while not self.ended.is_set() and not self.barred:
                self.one_unit()
        except Exception as problem:  # shown by the test
            self.barred = {"name": "the cheat itself failed", "message": repr(problem)}

    def one_unit(self):
        status, answer = self.client.lease()
        if status == 403:
            self.barred = answer["error"]
        elif status != 200 or not answer["lease"]:
            time.sleep(0.02)
        else:
            result, root, honest = self.forge(answer["lease"])
            status, answer = self.client.submit(answer["lease"], result, root)
            if status == 200:
                (self.honest if honest else self.false).append(json.loads(answer["receipt"]))


class Checked(harness.TestCase):
    def setUp(self):
        self.pool = harness.Pool(self.sandbox).start()
        self.pool.dataset("text", harness.generated_text(60_000))
        self.tokens = {name: self.pool.account(name) for name in ("ann", "ben", "cat", "mallory")}

    # --- the forgeries ---

    def garbage(self, lease):
        unit = lease["unit"]
        return wire.random_result(unit["codec"], unit["parameters"]), wire.sha256(b"no such segments"), False

    def stale(self, lease):
        """The right result of the same unit one round earlier; of round 0 it has none and stays honest."""
        unit = lease["unit"]
        before = max(0, unit["round"] - 1)
        right = replay(self.pool, unit["job"], f"{unit['job']}.{before}.t{unit['index']}", before)
        return right["blob"], right["segments_root"], unit["round"] == 0

    def copy(self, lease):
        """The right result of another unit of the same round: byte for byte what an honest rig submits."""
        unit = lease["unit"]
        right = replay(self.pool, unit["job"], f"{unit['job']}.{unit['round']}.t{(unit['index'] + 1) % UNITS}", unit["round"])
        return right["blob"], right["segments_root"], False

    # --- one run ---

    def check(self, forge, codec="int4"):
        # The job comes first: a rig that asks before there is one comes back seconds later, when all may be done.
        kind = dict(steps=3) if codec == "int4" else dict(steps=1, outer="adamw", outer_lr=0.003)
        self.pool.job("job", "text", rounds=ROUNDS, units=UNITS, lanes=1, batch=4, context=32, codec=codec, evaluate_every=4,
                      evaluate_rows=8, check_share=1, **kind)
        cheat = Cheat(self.pool, "mallory", self.tokens["mallory"], forge)
        self.addCleanup(cheat.ended.set)
        cheat.start()
        honest = [harness.Agent(self.pool, f"rig-{name}", name, self.tokens[name]).start() for name in HONEST]
        harness.wait_for("the cheat to be barred", lambda: cheat.barred, 150)
        self.assertEqual(cheat.barred["name"], "key_revoked", cheat.barred)
        status = self.pool.wait_job("job")
        self.assertEqual(status["rounds_done"], ROUNDS)
        self.assertGreaterEqual(status["checks_failed"], 1)
        for agent in honest:
            self.assertEqual(agent.stop(), 0)
        # Two of them must have worked, since each unit is computed for two accounts; the third may have come too late.
        worked = [agent for agent in honest if self.documents(agent)]
        self.assertGreaterEqual(len(worked), 2)
        for agent in worked:
            self.check_receipts(agent)
        self.check_books(cheat, [agent.account for agent in worked], status["earned"])

    def check_books(self, cheat, worked, earned):
        """No forgery is paid, the honest are, and the books balance."""
        false = {(r["unit"], r["attempt"]) for r in cheat.false if r["outcome"] == "accepted"}
        self.assertTrue(false)
        outcomes = {}
        for signed in cheat.client.call("GET", f"/v1/settlements/{cheat.client.public}/0", signed=False)[1]["settlements"]:
            settlement = json.loads(signed["document"])
            outcomes.setdefault((settlement["unit"], settlement["attempt"]), []).append(settlement["outcome"])
        for attempt in false:
            self.assertEqual(outcomes.get(attempt), ["voided"], attempt)
        print(f"earned {earned}; {len(false)} forgeries voided, {len(cheat.honest)} honest results of the cheat")
        self.assertLessEqual(int(earned.get("mallory", 0)), sum(int(r["price"]) for r in cheat.honest))
        for name in worked:
            self.assertGreater(int(earned.get(name, 0)), 0, name)
        self.assertEqual(sum(self.pool.json("ledger")["balances"].values()), 0)

    def documents(self, agent):
        """The signed documents that the rig keeps: receipts and settlements."""
        return [p for p in agent.data.rglob("*.json") if p.with_suffix(".sig").exists()]

    def check_receipts(self, agent):
        """openssl alone verifies every receipt and settlement that an honest rig keeps."""
        public = self.sandbox.folder / "pool.pub.pem"
        public.write_text(wire.public_pem(json.loads(self.pool.get("/v1/pool"))["public_keys"][-1]["key"]))
        for document in self.documents(agent):
            harness.run(["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", document,
                         "-sigfile", document.with_suffix(".sig")])

    def test_garbage(self):
        self.check(self.garbage)

    def test_garbage_gradients(self):
        self.check(self.garbage, "fp32")

    def test_stale_copy(self):
        self.check(self.stale)

    def test_another_units_result(self):
        self.check(self.copy)


if __name__ == "__main__":
    unittest.main(verbosity=2)
