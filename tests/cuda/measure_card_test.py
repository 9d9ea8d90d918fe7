"""measure_card.py from its first line to its last, on a card of the driver of the tests (tests/fakes/fake_cuda.h).

usage: measure_card_test.py CARD_BENCH BENCH_FOLDER GOLDEN_FILE PTX_FOLDER FAKE_LIBRARIES
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

PROGRAM, BENCH, GOLDEN, PTX = map(pathlib.Path, sys.argv[1:5])
LIBRARIES = sys.argv[5]
UNITS = ("gradient_odd_shape", "int8_odd_shape")


class MeasureCard(unittest.TestCase):
    """The folder is that of the target card_kit with fewer units and one kind of PTX; PyTorch has no card here."""

    def setUp(self):
        self.kit = pathlib.Path(tempfile.mkdtemp(prefix="card-kit-"))
        self.addCleanup(shutil.rmtree, self.kit)
        shutil.copy(BENCH / "measure_card.py", self.kit)
        (self.kit / "card_bench").symlink_to(PROGRAM)
        (self.kit / "ptx").mkdir()
        (self.kit / "ptx/compute_75").symlink_to(PTX)
        self.units([row for row in GOLDEN.read_text().splitlines() if row.startswith(UNITS)])
        (self.kit / "bin").mkdir()

    def units(self, rows):
        self.assertEqual(len(rows), len(UNITS))
        (self.kit / "golden.txt").write_text("\n".join(rows) + "\n")

    def measure(self, *arguments, card="8.6"):
        env = os.environ | {"LD_LIBRARY_PATH": LIBRARIES, "FAKE_CUDA_CARDS": f"0000:0A:00.0,{card},6000000000,Card",
                            "PATH": f"{self.kit}/bin:{os.environ['PATH']}"}
        done = subprocess.run([sys.executable, self.kit / "measure_card.py", "--tiny", "--seconds=0.001", *arguments],
                              env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.returncode, done.stdout

    def sanitizer(self, script):
        program = self.kit / "bin/compute-sanitizer"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def test_all(self):
        self.sanitizer('[ "$1" = --tool ] && [ "$3" = --error-exitcode ] || exit 1\nshift 4\n"$@" | grep -q "give their digest"'
                       ' && echo "========= ERROR SUMMARY: 0 errors"')
        code, words = self.measure("--without-pytorch")
        self.assertEqual(code, 0, words)
        self.assertIn("Card, 0000:0A:00.0, compute capability 8.6, 6.0 GB; driver for CUDA 12.4; code sm_86", words)
        self.assertIn("the program's code: 2 of 2 units give their digest", words)
        self.assertIn("compute_75, compiled by the driver: 2 of 2 units give their digest", words)
        self.assertIn("products by cuBLASLt: 2 of 2 units give their digest", words)
        self.assertIn("- NCCL 2.21.5, at one rank: all bits arrive", words)
        for half in ("bf16", "fp16"):  # of the own code, and of that for 7.5
            for model in ("GPT-2, heads of 64", "LLaMA, heads of 80"):
                self.assertRegex(words, rf"fast in {half}, {model}: [\d.e-]+ from exact-fp32, repeats itself( fast|\n)")
        for tool in ("memcheck", "racecheck", "initcheck", "synccheck"):
            self.assertIn(f"compute-sanitizer {tool}: passed; ERROR SUMMARY: 0 errors", words)
        rows = {r"tiny forward \| 20 x 24 x 16 \| [\d.]+ \| - \| - \| - \|": 5, r"tiny dw \| 16 x 24 x 20 ": 5,
                r"backward \| 1 x 9 x 2 x 8 \| [\d.]+ ": 2, r"copy 100 \| \d+ \| 1\.00 \|": 1,
                r"adamw 100 \| \d+ \| [\d.]+ \|": 1, r"tiny, 2 x 5 \| exact-int8-head \| [\d,]+ \|": 1,
                r"tiny, 2 x 5 \| exact-fp32 \| [\d,]+ \|": 1,
                r"tiny, 2 x 5 \| exact-fp32, launches one by one \| [\d,]+ \|": 1,
                r"tiny, 2 x 5 \| fast \| [\d,]+ \|": 1, r"tiny, 2 x 5 \| fast, by cuBLASLt [\w ]+\| [\d,]+ \|": 1}
        for row, count in rows.items():
            self.assertEqual(len(re.findall(rf"^\| {row}", words, re.MULTILINE)), count, f"{row}\n{words}")

    def test_a_card_without_fast(self):
        code, words = self.measure("--without-pytorch", "--only", "golden", "fast", "steps", card="6.1")
        self.assertEqual(code, 0, words)
        self.assertIn("- compute_75: not for this card", words)
        self.assertIn("This card does not compute `fast`", words)
        self.assertNotIn("| fast |", words)

    def test_a_wrong_digest_ends_it(self):
        rows = (self.kit / "golden.txt").read_text().splitlines()
        self.units([rows[0], rows[1][:-1] + ("0" if rows[1][-1] != "0" else "1")])
        code, words = self.measure("--without-pytorch")
        self.assertEqual(code, 1)
        self.assertIn(f"the program's code: {rows[1].split()[0]} gives another digest 1 of 2 units give their digest", words)
        self.assertIn("Golden digests are wrong, or fast is", words)
        self.assertNotIn("|", words, "no figures")

    def test_a_finding_of_the_sanitizer_is_shown(self):
        self.sanitizer('echo "========= Invalid __global__ write of size 4 bytes"; exit 9')
        code, words = self.measure("--without-pytorch", "--only", "sanitizer")
        self.assertEqual(code, 0)
        self.assertIn("compute-sanitizer racecheck: FAILED", words)
        self.assertIn("Invalid __global__ write", words)
        self.assertNotIn("|", words, "only this section")


if __name__ == "__main__":
    unittest.main(argv=["measure_card_test"], verbosity=2)
