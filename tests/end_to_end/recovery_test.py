"""Stops, kills and cuts: nothing is lost, and the job ends with the digest that it would have had."""

import os
import random
import time
import unittest
from unittest import mock

import harness
from proxy import Proxy

# A unit of some seconds on one core.
LONG = dict(units=1, lanes=2, steps=150, batch=24, context=32, inner_lr=0.002, codec="fp32", evaluate_every=1000,
            evaluate_rows=8, check_share=0)


class Recovery(harness.TestCase):
    def setUp(self):
        self.pool = harness.Pool(self.sandbox).start()
        self.token = self.pool.account("ann")
        self.pool.dataset("text", harness.generated_text(60_000))

    def agent(self, name="rig", **options):
        return harness.Agent(self.pool, name, "ann", self.token, **options)

    def expected(self, rounds, **options):
        """The digests of the same job left in peace."""
        self.pool.job("peace", "text", rounds=rounds, **options)
        agent = self.agent("peaceful").start()
        self.pool.wait_job("peace")
        self.assertEqual(agent.stop(), 0)
        return self.pool.weights_digests("peace", rounds)

    def wait_unit_out(self, job):
        harness.wait_for("a unit to be out", lambda: self.pool.show(job)["units_out"] > 0, 60)
        time.sleep(0.7)  # fetched and computing

    def test_terminated_agent_gives_its_unit_back(self):
        self.pool.job("slow", "text", rounds=1, **{**LONG, "steps": 1000})
        agent = self.agent().start()
        self.wait_unit_out("slow")
        begin = time.monotonic()
        self.assertEqual(agent.stop(), 0)
        self.assertLess(time.monotonic() - begin, 5)
        self.assertEqual(self.pool.show("slow")["units_out"], 0)
        self.assertEqual(self.pool.show("slow")["units_accepted"], 0)
        other = self.agent("other").start()
        harness.wait_for("the unit to be out again", lambda: self.pool.show("slow")["units_out"] == 1, 60)
        self.assertEqual(other.stop(), 0)

    def test_killed_agent_takes_its_unit_up_again(self):
        expected = self.expected(2, **LONG)
        self.pool.job("job", "text", rounds=2, **LONG)
        agent = self.agent().start()
        self.wait_unit_out("job")
        agent.kill()
        agent.start()
        self.pool.wait_job("job")
        self.assertEqual(self.pool.weights_digests("job", 2), expected)
        self.assertEqual(agent.stop(), 0)
        attempts = [receipt.name.split(".")[3] for receipt in agent.data.rglob("job.*.t*.receipt.json")]
        self.assertEqual(attempts, ["1", "1"], "the lost lease lapsed instead of being taken up again")

    def test_killed_pool_goes_on(self):
        options = dict(units=2, lanes=1, steps=40, batch=8, context=32, codec="int4", evaluate_every=2, evaluate_rows=8,
                       check_share=0.5)
        expected = self.expected(6, **options)
        self.pool.job("job", "text", rounds=6, **options)
        agents = [self.agent(f"rig{i}").start() for i in range(2)]
        for rounds in (1, 3):
            self.pool.wait_rounds("job", rounds)
            self.pool.server.kill()
            self.pool.start()
        self.pool.wait_job("job")
        self.assertEqual(self.pool.weights_digests("job", 6), expected)
        for agent in agents:
            self.assertEqual(agent.stop(), 0)

    def test_killed_again_and_again(self):
        """Pool and rigs die at seeded moments of 15 rounds; every round is still the same, and the books balance."""
        options = dict(units=3, lanes=2, steps=20, batch=8, context=32, codec="int4", evaluate_every=2, evaluate_rows=8)
        expected = self.expected(20, **options, check_share=0)
        self.pool.job("job", "text", rounds=20, **options, check_share=0.5)
        self.pool.cli("job", "pause", "job", "--after", 15)  # so that it does not end before the last kill
        ben = self.pool.account("ben")
        agents = [self.agent("rig0"), self.agent("rig1"), harness.Agent(self.pool, "rig2", "ben", ben)]
        for agent in agents:
            agent.start()
        draw = random.Random(23)
        for rounds in range(15):
            self.pool.wait_rounds("job", rounds)
            time.sleep(draw.uniform(0, 0.6))  # somewhere in the next round
            victim = draw.choice([self.pool, self.pool, *agents])
            if victim is self.pool:
                self.pool.server.kill()
                self.pool.start()
            else:
                victim.kill()
                victim.start()
        self.pool.cli("job", "resume", "job")
        self.pool.wait_job("job")
        self.assertEqual(self.pool.weights_digests("job", 20), expected)
        self.assertEqual(sum(self.pool.json("ledger")["balances"].values()), 0)
        for agent in agents:
            self.assertEqual(agent.stop(), 0)

    def test_without_standard_files(self):
        """Where 0 to 2 are closed at the start, no file or socket gets such a number, and with it the log's lines."""
        self.pool.job("job", "text", rounds=2, **{**LONG, "steps": 40})
        self.assertEqual(self.pool.server.stop(), 0)
        agent = self.agent()
        for name, start in (("gradpool", self.pool.start), ("gradminer", agent.start)):
            script = self.sandbox.folder / name
            script.write_text(f'#!/bin/sh\nexec {harness.binary(name)} "$@" <&- >&- 2>&-\n')
            script.chmod(0o755)
            with mock.patch.dict(os.environ, {name.upper(): str(script)}):
                start()
        self.pool.wait_job("job")
        for process in (self.pool.server, agent.process):
            for number in range(3):
                self.assertEqual(os.readlink(f"/proc/{process.popen.pid}/fd/{number}"), "/dev/null", process.name)
        self.assertEqual(agent.stop(), 8)  # output that is lost, as of any other command
        self.assertEqual(self.pool.server.stop(), 0)

    def test_stopped_pool_leaves_no_ready_file(self):
        self.assertTrue((self.pool.data / "serve.json").exists())
        self.assertEqual(self.pool.server.stop(), 0)
        self.assertFalse((self.pool.data / "serve.json").exists())

    def test_cut_upload_is_delivered_after_a_restart(self):
        self.pool.job("job", "text", rounds=1, **LONG)
        proxy = Proxy(self.pool.url)
        self.addCleanup(proxy.close)
        agent = self.agent(url=proxy.url).start()
        proxy.refuse_after(60_000)  # control messages are small, the result has 130 kB
        harness.wait_for("the upload to be cut", proxy.refuses.is_set, 60)
        time.sleep(0.5)
        agent.kill()
        self.assertEqual(self.pool.show("job")["units_accepted"], 0)
        proxy.accept()
        agent.start()
        self.pool.wait_job("job")
        self.assertEqual(agent.stop(), 0)
        self.assertIn("outbox", agent.process.log().lower())
        self.assertTrue(list(agent.data.rglob("job.0.t0.1.receipt.json")), "it was computed again")

    def test_pool_without_room_loses_nothing(self):
        """A full disk stops the pool's work with a message; with room again the job goes on to the same digests."""
        disk = self.sandbox.small_disk("disk", "8m")
        if disk is None:
            self.skipTest("mounting a tmpfs needs root")
        options = dict(units=2, lanes=1, steps=40, batch=8, context=32, evaluate_every=100, evaluate_rows=8, check_share=0)
        expected = self.expected(6, **options)
        self.assertEqual(self.pool.server.stop(), 0)
        self.pool = harness.Pool(self.sandbox, "small", data=disk / "pool").start()
        self.token = self.pool.account("ann")
        self.pool.dataset("text", harness.generated_text(60_000))
        self.pool.job("job", "text", rounds=6, **options)
        agent = self.agent().start()
        self.pool.wait_rounds("job", 1)
        ballast = disk / "ballast"
        with open(ballast, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        harness.wait_for("the agent to say that the pool has trouble", lambda: "internal" in agent.process.log(), 60)
        done = self.pool.show("job")["rounds_done"]
        self.assertLess(done, 6)
        ballast.unlink()
        self.pool.wait_job("job")
        self.assertEqual(self.pool.weights_digests("job", 6), expected)
        self.assertEqual(agent.stop(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
