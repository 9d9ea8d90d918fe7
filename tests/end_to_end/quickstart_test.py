"""./quickstart as a newcomer uses it: the same bits twice, interrupted and continued, its summary, and its messages."""

import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "packaging/quickstart"))
import summary  # noqa: E402
import training  # noqa: E402

ROUNDS = 3
SUMMARY = {
    "validation_loss_first": float, "validation_loss_last": float, "rounds": int, "units_accepted": int,
    "units_rejected": int, "tokens": int, "tokens_per_second": float, "bytes_up": int, "bytes_down": int,
    "weights_digest": str, "checkpoint": str, "earned": dict, "seed": int, "job": str,
}


def quickstart(*arguments, expect=0, timeout=300):
    done = subprocess.run([ROOT / "quickstart", *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=timeout)
    if done.returncode != expect:
        raise AssertionError(f"{arguments}: exit code {done.returncode}, expected {expect}\n{done.stdout}")
    return done.stdout


class Quickstart(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="quickstart-test-"))
        cls.text = cls.folder / "text.txt"
        verses = [f"{n} {'and ' * (n % 4)}the word of day {n * n % 97} was good.\n" for n in range(400)]
        cls.text.write_text("".join(verses))
        cls.undisturbed = cls.folder / "undisturbed"
        cls.output = quickstart("--text", cls.text, "--dir", cls.undisturbed, "--rounds", ROUNDS)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def summary(self, folder):
        return json.loads((folder / "summary.json").read_text())

    def test_summary(self):
        summary = self.summary(self.undisturbed)
        self.assertEqual({key: type(value) for key, value in summary.items()}, SUMMARY)
        self.assertEqual(summary["rounds"], ROUNDS)
        self.assertEqual(summary["units_accepted"] > 0, True)
        self.assertEqual(summary["units_rejected"], 0)
        self.assertLess(summary["validation_loss_last"], summary["validation_loss_first"])
        self.assertEqual(set(summary["earned"]), {"alice", "bob"})
        self.assertTrue(all(type(amount) is int and amount >= 0 for amount in summary["earned"].values()))
        weights = pathlib.Path(summary["checkpoint"]) / "model.safetensors"
        self.assertEqual(hashlib.sha256(weights.read_bytes()).hexdigest(), summary["weights_digest"])
        for shown in ("What it writes", summary["weights_digest"], "What to try next"):
            self.assertIn(shown, self.output)

    def test_same_again_is_done_at_once(self):
        before = self.summary(self.undisturbed)
        begin = time.monotonic()
        quickstart("--dir", self.undisturbed, "--rounds", ROUNDS)
        self.assertLess(time.monotonic() - begin, 15)
        self.assertEqual(self.summary(self.undisturbed), before)

    def test_interrupted_run_goes_on_to_the_same_weights(self):
        folder = self.folder / "interrupted"
        command = [ROOT / "quickstart", "--text", self.text, "--dir", folder, "--rounds", str(ROUNDS)]
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True)
        # Until a unit of the second round is computed. Either agent may be the one: in three rounds of this size the
        # quicker one can take all of a round.
        logs = [folder / f"logs/agent-{n}.log" for n in (1, 2)]
        while running.poll() is None and not any(log.exists() and "quickstart.1.t" in log.read_text() for log in logs):
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        begin = time.monotonic()
        output, _ = running.communicate(timeout=30)
        self.assertLess(time.monotonic() - begin, 10)
        self.assertEqual(running.returncode, 130, output)
        self.assertIn("goes on from here", output)
        self.assertFalse((folder / "summary.json").exists(), "the run was over before it was interrupted")
        self.assertEqual(processes_of(folder), [])

        quickstart("--dir", folder, "--rounds", ROUNDS)
        self.assertEqual(self.summary(folder)["weights_digest"], self.summary(self.undisturbed)["weights_digest"])

    def test_another_seed_gives_other_weights_and_fresh_starts_over(self):
        folder = self.folder / "two words"
        folder.mkdir()
        (folder / "quickstart.json").write_text("{}\n")  # as a start leaves it that is interrupted at once
        output = quickstart("--text", self.text, "--dir", folder, "--rounds", 1, "--seed", 7)
        self.assertIn(f"--model '{folder}/checkpoint'", output)
        first = self.summary(folder)
        quickstart("--text", self.text, "--dir", folder, "--rounds", 1, "--seed", 8, "--fresh")
        second = self.summary(folder)
        self.assertEqual((first["seed"], second["seed"]), (7, 8))
        self.assertNotEqual(first["weights_digest"], second["weights_digest"])

    def test_mistakes(self):
        other = self.folder / "other.txt"
        other.write_text("another text altogether, " * 200)
        short = self.folder / "short.txt"
        short.write_text("too short")
        empty = self.folder / "empty.txt"
        empty.touch()
        foreign = self.folder / "foreign"
        foreign.mkdir()
        (foreign / "precious").touch()
        new = self.folder / "new"
        mistakes = [
            (2, "--minutes", ["--minutes", "3", "--rounds", "3"]),
            (2, "more than 0", ["--minutes", "0"]),
            (2, "whole number", ["--rounds", "2.5"]),
            (2, "1 to 1000000", ["--rounds", "0"]),
            (2, "--frobnicate", ["--frobnicate"]),
            (1, "no such file", ["--text", self.folder / "missing.txt", "--dir", new]),
            (1, "not a plain file", ["--text", self.folder, "--dir", new]),
            (1, "is empty", ["--text", empty, "--dir", new]),
            (1, "at least 2000", ["--text", short, "--dir", new]),
            (1, "cannot be used", ["--dir", other]),
            (1, "no quickstart made", ["--dir", foreign]),
            (1, "no quickstart made", ["--dir", foreign, "--fresh"]),
            (1, "another text", ["--text", other, "--dir", self.undisturbed]),
            (1, "--seed 1", ["--seed", "2", "--dir", self.undisturbed]),
            (1, "--fresh", ["--rounds", ROUNDS - 1, "--dir", self.undisturbed]),
        ]
        for code, words, arguments in mistakes:
            with self.subTest(arguments=arguments):
                self.assertIn(words, quickstart(*arguments, expect=code))
        self.assertFalse(new.exists())
        self.assertTrue((foreign / "precious").exists())
        with self.subTest("two at a time"), open(self.undisturbed / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.assertIn("another quickstart is running", quickstart("--dir", self.undisturbed, expect=1))

    def test_a_bad_text_does_not_cost_the_old_run(self):
        quickstart("--text", self.folder / "missing.txt", "--dir", self.undisturbed, "--fresh", expect=1)
        self.assertTrue((self.undisturbed / "summary.json").exists())

    def test_the_readme_computes_a_gradient(self):
        block = next(b for b in re.findall(r"(?:^    .*\n)+", (ROOT / "README.md").read_text(), re.M) if "gradminer compute" in b)
        block = block.replace("build/quickstart/", f"{self.undisturbed}/").replace("tokens.bin", f"{self.folder}/tokens.bin")
        block = block.replace("gradients.safetensors", f"{self.folder}/gradients.safetensors")
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=ROOT, stdout=subprocess.PIPE, check=True)
        answer = json.loads(done.stdout)
        self.assertEqual(answer["digest"], hashlib.sha256((self.folder / "gradients.safetensors").read_bytes()).hexdigest())

    def test_an_interruption_loses_no_token(self):
        """The pool shows a token once; Ctrl+C just then must not come between the pool and the file."""
        (self.folder / "tokens").mkdir()
        run = training.Training(types.SimpleNamespace(path=self.folder / "tokens"), None)

        def interrupted(*_):
            os.kill(os.getpid(), signal.SIGINT)
            return {"account": "alice", "token": "the token"}
        run._json = interrupted
        with self.assertRaises(KeyboardInterrupt):
            run._token("alice")
        self.assertEqual(run._token("alice"), "the token")

    def test_summary_of_a_text_of_one_byte(self):
        """Its entropy is 0, and a share of it is no number."""
        self.assertIn("0.125", summary.compared(0.125, 0.0))
        self.assertIn("0.50 of the 3.000", summary.compared(1.5, 3.0))

    def test_accounts_without_a_unit_are_in_the_summary(self):
        state = {**dict.fromkeys(SUMMARY, 1), "validation_loss": [(0, 5.0)], "rounds_done": 1, "earned": {"bob": 7}}
        self.assertEqual(summary.as_json(state, "checkpoint")["earned"], {"alice": 0, "bob": 7})

    def test_help(self):
        self.assertIn("--minutes N", quickstart("--help"))


def processes_of(folder):
    """Commands of running processes that name the folder."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in command:
                found.append(command)
    return found


if __name__ == "__main__":
    unittest.main(verbosity=2)
