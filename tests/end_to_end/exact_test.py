"""Exact: the same weights after every round, whoever computes, with what, in any order, whatever is killed.

For each number of lanes per unit and both kinds of job (gradients, local steps) one job is run several times; each
number of agents, of threads and each SIMD path is met with each number of lanes. One round's units are also
recomputed from public inputs by the reference operations, and a short job must give the digests in golden.json
(remake: exact_test.py --golden).
"""

import json
import sys
import unittest

import numpy

import harness
import wire
from replay import replay

LANES = (1, 2, 3, 8)
ROUNDS = 3
KINDS = {
    "gradients": dict(steps=1, outer="adamw", outer_lr=0.003, codec="fp32"),
    "local": dict(steps=4, inner_lr=0.004, max_grad_norm=1, outer="nesterov", outer_lr=0.7, momentum=0.6, codec="int4"),
}
# (SIMD path, threads) of a lone agent: each value is met with each number of lanes.
ALONE = {"gradients": [("portable", 1), ("avx512", 2)], "local": [("avx2", 1), ("portable", 7)]}
FIVE = [("avx512", 2), ("portable", 1), ("avx2", 7), ("portable", 2), ("avx512", 1)]
GOLDEN = harness.HERE / "golden.json"
CPU = open("/proc/cpuinfo").read()


class Exact(harness.TestCase):
    def setUp(self):
        self.pool = harness.Pool(self.sandbox).start()
        self.accounts = {name: self.pool.account(name) for name in ("ann", "ben", "cat")}
        self.pool.dataset("text", harness.generated_text(60_000))
        self.serial = 0

    def agent(self, simd, threads):
        self.serial += 1
        account = list(self.accounts)[self.serial % len(self.accounts)]
        return harness.Agent(self.pool, f"rig{self.serial}", account, self.accounts[account], threads,
                             simd.replace("_", "") if simd in CPU else "portable")

    def job(self, name, kind, lanes, model=None, **options):
        self.pool.job(name, "text", model, rounds=ROUNDS, units=3, lanes=lanes, batch=3, context=24, evaluate_every=2,
                      evaluate_rows=8, seed=7, **{**KINDS[kind], **options})
        return name

    def run_job(self, name, equipment, kill_one=False):
        """Runs a created job to its end with these agents; the weights' digests."""
        agents = [self.agent(*e).start() for e in equipment]
        if kill_one:
            self.pool.wait_rounds(name, 1)
            agents[0].kill()
        self.pool.wait_job(name)
        for agent in agents[1 if kill_one else 0:]:
            self.assertEqual(agent.stop(), 0, agent.name)
        digests = self.pool.weights_digests(name, ROUNDS)
        self.assertEqual(len(set(digests)), ROUNDS, "a round changed nothing")
        return digests

    def check_against_reference(self, job):
        """All train units of the last round, by the reference operations, are what the pool accepted and recorded."""
        units = []
        for index in range(3):
            name = f"{job}.{ROUNDS - 1}.t{index}"
            units.append(replay(self.pool, job, name, ROUNDS - 1))
            (file,) = self.sandbox.folder.rglob(f"{name}.*.receipt.json")
            receipt = json.loads(file.read_text())
            self.assertEqual({"result": receipt["result"], "segments_root": receipt["segments_root"], "outcome": "accepted"},
                             {"result": units[-1]["result"], "segments_root": units[-1]["segments_root"],
                              "outcome": receipt["outcome"]})
        root = wire.merkle_root([bytes.fromhex(unit["result"]) for unit in units])
        self.assertEqual(root, self.pool.record(job, ROUNDS - 1)["units_root"])

    def check_lanes(self, lanes):
        for kind in KINDS:
            with self.subTest(lanes=lanes, kind=kind):
                names = [f"{kind}-{lanes}-{run}" for run in range(3)]
                first = self.run_job(self.job(names[0], kind, lanes, check_share=0), [ALONE[kind][0]])
                second = self.run_job(self.job(names[1], kind, lanes, check_share=0), [ALONE[kind][1]])
                five = self.run_job(self.job(names[2], kind, lanes, check_share=1), FIVE, kill_one=True)
                self.assertEqual(second, first, "one agent, other threads and SIMD path")
                self.assertEqual(five, first, "five agents, one killed, every unit checked")
                self.assertEqual(self.pool.show(names[2])["checks_failed"], 0)
                self.check_against_reference(names[0])
                self.assertEqual(wire.sha256(wire.weights_after(self.pool, names[0], ROUNDS)), first[-1])

    def test_1_lane(self):
        self.check_lanes(1)

    def test_2_lanes(self):
        self.check_lanes(2)

    def test_3_lanes(self):
        self.check_lanes(3)

    def test_8_lanes(self):
        self.check_lanes(8)

    def test_llama(self):
        """One agent and three that check each other; the description carries RoPE's frequencies as numbers."""
        untied, tied = harness.Pool.TINY_LLAMA, {**harness.Pool.TINY_LLAMA, "tie_word_embeddings": True}
        for kind, model in (("local", untied), ("gradients", tied)):
            with self.subTest(kind=kind):
                names = [f"llama-{kind}-{run}" for run in range(2)]
                alone = self.run_job(self.job(names[0], kind, 2, model, check_share=0), [("portable", 1)])
                several = self.run_job(self.job(names[1], kind, 2, model, check_share=1), FIVE[:3])
                self.assertEqual(several, alone)
                self.assertEqual(self.pool.show(names[1])["checks_failed"], 0)
                self.check_against_reference(names[0])
        frequencies = json.loads(self.pool.document(f"/v1/jobs/{names[0]}"))["model"]["rope_inverse_frequencies"]
        self.assertEqual(frequencies, [float(numpy.float32(x) / 2) for x in (1, 0.1, 0.01, 0.001)])

    def test_int8(self):
        """One agent and three that check each other, on paths with and without instructions for int8; results in int8, too."""
        for kind, profile, model, codec in (("gradients", "exact-int8", None, "int8"), ("local", "exact-int8-head", None, "int4"),
                                            ("local", "exact-int8", harness.Pool.TINY_LLAMA, "int8")):
            with self.subTest(kind=kind, profile=profile):
                names = [f"int8-{kind}-{'llama' if model else 'gpt2'}-{run}" for run in range(2)]
                options = dict(profile=profile, codec=codec)
                alone = self.run_job(self.job(names[0], kind, 2, model, check_share=0, **options), [("portable", 1)])
                several = self.run_job(self.job(names[1], kind, 2, model, check_share=1, **options),
                                       [("avx512_vnni", 2), ("avx2", 1), ("portable", 3)])
                self.assertEqual(several, alone)
                self.assertEqual(self.pool.show(names[1])["checks_failed"], 0)
                self.check_against_reference(names[0])
                self.assertEqual(json.loads(self.pool.document(f"/v1/jobs/{names[0]}"))["profile"], profile + "/1")
                self.assertEqual(wire.sha256(wire.weights_after(self.pool, names[0], ROUNDS)),
                                 self.pool.weights_digests(names[0], ROUNDS)[-1])

    def test_golden(self):
        """The digests of a short job of each kind are those of every other machine that ran this test."""
        found = {}
        for kind in KINDS:
            found[kind] = self.run_job(self.job(f"golden-{kind}", kind, 2, check_share=0), [("avx2", 2)])
        llama = self.job("golden-llama", "local", 2, harness.Pool.TINY_LLAMA, check_share=0)
        found["llama"] = self.run_job(llama, [("avx2", 2)])
        if "--golden" in sys.argv:
            GOLDEN.write_text(json.dumps({"made by": "tests/end_to_end/exact_test.py --golden", **found}, indent=2) + "\n")
        golden = json.loads(GOLDEN.read_text())
        self.assertEqual({kind: golden[kind] for kind in found}, found)


if __name__ == "__main__":
    unittest.main(argv=["exact_test"] + (["Exact.test_golden"] if "--golden" in sys.argv else sys.argv[1:]), verbosity=2)
