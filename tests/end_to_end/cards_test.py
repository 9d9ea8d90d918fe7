"""Cards: a rig with several of them, one of which fails or hangs, or the driver with it, in the middle of a unit, gives the weights of a rig
with none.

The cards are those of the driver of the tests (tests/fakes/fake_cuda.h), which runs the kernels on the CPU; what they pass
to each other goes through the stand-in for NCCL (tests/fakes/fake_nccl.h), and what their sensors say through that for NVML
(tests/fakes/fake_nvml.h).
"""

import os
import re
import unittest

import harness

ROUNDS = 2
MODEL = {"model_type": "gpt2", "vocab_size": 256, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2}
CARDS = "0000:0A:00.0,8.6,6000000000,Third;0000:02:00.0,6.1,6000000000,First;0000:07:00.0,7.0,6000000000,Second"


class Cards(harness.TestCase):
    def setUp(self):
        self.pool = harness.Pool(self.sandbox).start()
        self.token = self.pool.account("ann")
        self.pool.dataset("text", harness.generated_text(20_000))

    def start_agent(self, name, extra=(), **environment):
        folders = ":".join(os.environ[folder] for folder in ("FAKE_CUDA_SIMT", "FAKE_NCCL", "FAKE_NVML"))
        env = {"LD_LIBRARY_PATH": folders, "FAKE_CUDA_CARDS": CARDS, **environment}
        return harness.Agent(self.pool, name, "ann", self.token, extra=extra, env=env).start()

    def create_job(self, name, rounds=ROUNDS, units=1, lanes=4):
        self.pool.job(name, "text", MODEL, rounds=rounds, units=units, lanes=lanes, steps=2, inner_lr=0.004, outer="nesterov",
                      outer_lr=0.7, momentum=0.6, batch=2, context=8, codec="int4", seed=7, check_share=0,
                      evaluate_every=1, evaluate_rows=2)

    def run_job(self, name, extra=(), units=1, lanes=4, **fake_cuda):
        """(The weights' digest after every round, the agent's log.)"""
        self.create_job(name, units=units, lanes=lanes)
        agent = self.start_agent(name, extra, **fake_cuda)
        self.pool.wait_job(name)
        self.assertEqual(agent.stop(), 0)
        return self.pool.weights_digests(name, ROUNDS), agent.process.log()

    def test_same_weights(self):
        expected, log = self.run_job("on-cpu", ["--cuda-devices", "none"])
        self.assertNotIn("0000:", log)

        digests, log = self.run_job("three-cards")
        self.assertEqual(digests, expected)
        passed = [line.split("] ")[-1] for line in log.splitlines() if "self-test passed" in line]
        self.assertEqual(len(passed), 3, log)
        for line, card in zip(passed, ("0000:02:00.0 First", "0000:07:00.0 Second", "0000:0A:00.0 Third")):
            self.assertIn(card, line)
        self.assertNotIn("NCCL", log)
        self.assertNotIn("nccl", log)

        digests, log = self.run_job("nccl-fails", FAKE_NCCL_FAIL="ncclGroupEnd,1")
        self.assertEqual(digests, expected)
        sets = re.findall(r"nccl-fails\.\d\.t0: (0000:.+): ncclGroupEnd: unhandled system error \(2\); from now on the results of "
                          "these cards together pass through the host's memory", log)
        self.assertEqual(sets[0].count("0000:"), 3, log)
        self.assertEqual(len(sets), len({frozenset(cards.split(", ")) for cards in sets}), "a set fails once")
        self.assertNotIn("left out", log)

        # Each lane begins with one such copy, of which the self-test makes four.
        digests, log = self.run_job("one-fails", ["--cuda-devices", "1,0"],
                                    FAKE_CUDA_FAIL="cuMemcpyDtoDAsync_v2,1,719,4", FAKE_NCCL_VERSION="2604")
        self.assertEqual(digests, expected)
        self.assertRegex(log, r"0000:02:00\.0 First is left out: one-fails\.\d\.\w+: 0000:02:00\.0: cuMemcpyDtoDAsync_v2: unspecified "
                         "launch failure")
        self.assertIn("NCCL is too old: it is 2.6.4, needed is 2.7.0 or later; results pass through the host's memory", log)
        self.assertNotIn("Third", log)
        self.assertNotIn("gave ", log, "no unit is given back")

        digests, log = self.run_job("one-hangs", ["--cuda-devices", "0,1", "--cuda-timeout", "1"],
                                    FAKE_CUDA_HANG="cuMemcpyDtoDAsync_v2,1,4")
        self.assertEqual(digests, expected)
        self.assertRegex(log, r"0000:02:00\.0 First is left out: one-hangs\.\d\.\w+: 0000:02:00\.0: the card hangs: it has finished "
                         "nothing for 1 s")
        self.assertNotIn("gave ", log, "no unit is given back")

        # The end of the driver, which the agent must not wait for, never ends from then on.
        digests, log = self.run_job("one-is-stuck", ["--cuda-devices", "0,1", "--cuda-timeout", "2"],
                                    FAKE_CUDA_STUCK="cuMemcpyDtoDAsync_v2,1,4")
        self.assertEqual(digests, expected)
        self.assertEqual(log.count("left out"), 1, "it is not tried again")
        self.assertRegex(log, r"0000:02:00\.0 First is left out: one-is-stuck\.\d\.\w+: 0000:02:00\.0: cuMemcpyDtoDAsync_v2 has not "
                         "returned for 2 s; restart the machine")
        self.assertNotIn("gave ", log, "no unit is given back")

        digests, log = self.run_job("one-never-opens", ["--cuda-devices", "0,1", "--cuda-timeout", "1"],
                                    FAKE_CUDA_STUCK="cuModuleLoadData,1,0")
        self.assertEqual(digests, expected)
        self.assertEqual(log.count("0000:02:00.0 First is left out: 0000:02:00.0: cuModuleLoadData has not returned for 5 s"), 1)

        digests, log = self.run_job("driver-is-stuck", ["--cuda-timeout", "1"], FAKE_CUDA_STUCK="cuInit,-1,0")
        self.assertEqual(digests, expected)
        self.assertIn("computing on the CPU: the CUDA driver: cuInit has not returned for 5 s; restart the machine", log)

    def test_several_units(self):
        expected, log = self.run_job("on-cpu", ["--cuda-devices", "none"], units=4, lanes=1)
        self.assertEqual(most_in_work(log), 1, log)
        digests, log = self.run_job("three-cards", units=4, lanes=1)
        self.assertEqual(digests, expected)
        self.assertGreaterEqual(most_in_work(log), 2, log)
        self.assertNotIn("gave ", log, "no unit is given back")

    def test_sensors(self):
        """The first card has no fan and runs hot for a while, the second is lost, a call for the third does not return."""
        self.create_job("job", rounds=10_000)
        agent = self.start_agent("rig", ["--health-print-time", "1", "--cuda-timeout", "2"], FAKE_NVML_CARDS=(
            "0000:02:00.0,84,-,118400,120000,1708,4006,0.48.48.48.4;0000:07:00.0,!15,!15,!15,!15,!15,!15,!15;"
            "0000:0A:00.0,60,30,200000,350000,1695,9501,0"), FAKE_NVML_HANG="nvmlDeviceGetPowerUsage,0000:0A:00.0")
        awaited = ("not slowed down any more", "GPU is lost", "has not returned")
        harness.wait_for("the end of a slowdown", lambda: all(text in agent.process.log() for text in awaited), 120)
        self.assertEqual(agent.stop(), 0)
        lines = [line.split("] ")[-1] for line in agent.process.log().splitlines()]
        first = [line for line in lines if line.startswith("0000:02:00.0 First") and "self-test" not in line]
        values = "84 C, 118 of 120 W, 1708 MHz, memory 4006 MHz"
        cool, hot = f"0000:02:00.0 First: {values}", f"0000:02:00.0 First: {values}, slowed by heat"
        limited = f"0000:02:00.0 First: {values}, slowed by power limit"
        self.assertEqual(first[:11], [cool, hot, hot, f"0000:02:00.0 First is slowed down by heat: {values}", hot, limited,
                                      limited, limited, limited, limited,
                                      f"0000:02:00.0 First is not slowed down any more: {values}"])
        self.assertCountEqual([line for line in lines if "does not tell" in line], [  # whichever has work first
            "0000:07:00.0: nvmlDeviceGetTemperature: GPU is lost (15); what this card does not tell is not shown",
            "0000:0A:00.0: nvmlDeviceGetPowerUsage has not returned for 2 s; restart the machine; what this card does not "
            "tell is not shown"])
        self.assertFalse([line for line in lines if "left out" in line or "NVML" in line])

    def test_no_sensors(self):
        self.create_job("job")
        agent = self.start_agent("rig", FAKE_NVML_FAIL="nvmlInit_v2,9")
        self.pool.wait_job("job")
        self.assertEqual(agent.stop(), 0)
        self.assertEqual(agent.process.log().count("NVML"), 1)
        self.assertIn("NVML: nvmlInit_v2: Driver Not Loaded (9); temperature, fan, power, clocks and slowdowns of cards are not "
                      "shown", agent.process.log())


def most_in_work(log):
    """The most units that were in work at a time."""
    most = in_work = 0
    for line in log.splitlines():
        in_work += (" tokens, " in line and "planned memory" in line) - (" accepted " in line)
        most = max(most, in_work)
    return most


if __name__ == "__main__":
    unittest.main(argv=["cards_test"], verbosity=2)
