"""A backup of a running pool is restored, and agents whose receipts are newer than it go on to the same weights."""

import unittest

import harness

JOB = dict(units=2, lanes=1, steps=60, batch=8, context=32, codec="int4", evaluate_every=2, evaluate_rows=8,
           check_share=0)
ROUNDS = 24


class Restore(harness.TestCase):
    def agents(self, token):
        return [harness.Agent(self.pool, f"rig{i}", "ann", token) for i in range(2)]

    def test_restored_pool_goes_on(self):
        self.pool = harness.Pool(self.sandbox).start()
        token = self.pool.account("ann")
        self.pool.dataset("text", harness.generated_text(60_000))
        self.pool.job("peace", "text", rounds=ROUNDS, **JOB)
        agents = self.agents(token)
        for agent in agents:
            agent.start()
        self.pool.wait_job("peace")
        expected = self.pool.weights_digests("peace", ROUNDS)

        self.pool.job("job", "text", rounds=ROUNDS, **JOB)
        self.pool.wait_rounds("job", 2)
        backup = self.sandbox.folder / "backup"
        self.pool.cli("backup", "--out", backup)
        self.pool.wait_rounds("job", self.pool.show("job")["rounds_done"] + 2)
        self.pool.server.kill()
        lost = self.pool.show("job")["rounds_done"]
        receipts = {file: file.read_bytes() for agent in agents for file in agent.data.rglob("job.*.receipt.json")}

        self.pool.data = self.sandbox.folder / "restored"
        self.pool.cli("restore", "--from", backup)
        self.assertLess(self.pool.show("job")["rounds_done"], lost, "nothing was lost between backup and kill")
        self.pool.start()
        self.pool.wait_job("job")
        self.assertEqual(self.pool.weights_digests("job", ROUNDS), expected)
        for agent in agents:
            self.assertEqual(agent.stop(), 0)
        self.assertEqual(sum(self.pool.json("ledger")["balances"].values()), 0)
        for file, content in receipts.items():
            self.assertEqual(file.read_bytes(), content, "a receipt of the lost time was overwritten")
        self.assertGreater(len(receipts), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
