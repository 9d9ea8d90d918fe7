"""measure_card.py from its first line to its last, on a card of the driver of the tests (tests/fakes/fake_cuda.h).

usage: measure_card_test.py CARD_BENCH BENCH_FOLDER GOLDEN_FILE PTX_FOLDER FAKE_LIBRARIES [TEST ...]
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

PROGRAM, BENCH, GOLDEN, PTX = map(pathlib.Path, sys.argv[1:5])
LIBRARIES = sys.argv[5]
UNITS = ("gradient_odd_shape", "int8_odd_shape")
# In the place of card_peers.py: what it computes takes a second, or cannot be computed.
PEERS = """
def use(card): pass
def version(): return "PyTorch 0"
def half(): return "bf16"
def half_name(): return "bf16"
def step_kinds(): return ["eager fp32", "compiled fp32"]
def seconds_of(call, calls): return call()
def product(form, *sizes): return (lambda: 1) if form != "dx" else fail("out of memory")
def int8_product(*sizes): return None
def attention(*sizes): return lambda: fail("no kernel image\\nis available")
def seconds_of_step(model, kind, *_): return 1 if kind == "compiled fp32" else fail("out of memory")
def give_back(): print("given back")
def free(): pass
def fail(words): raise RuntimeError(words)
"""
sys.path.append(str(BENCH))
sys.dont_write_bytecode = True
import measure_card


class MeasureCard(unittest.TestCase):
    """The folder is that of the target card_kit with fewer units and one kind of PTX; PyTorch has no card here."""

    def setUp(self):
        self.kit = pathlib.Path(tempfile.mkdtemp(prefix="card-kit-"))
        self.addCleanup(shutil.rmtree, self.kit)
        for script in ("measure_card.py", "card_machine.py"):
            shutil.copy(BENCH / script, self.kit)
        (self.kit / "card_bench").symlink_to(PROGRAM)
        (self.kit / "ptx").mkdir()
        (self.kit / "ptx/compute_75").symlink_to(PTX)
        self.units([row for row in GOLDEN.read_text().splitlines() if row.startswith(UNITS)])
        (self.kit / "bin").mkdir()
        self.libraries = LIBRARIES

    def units(self, rows):
        self.assertEqual(len(rows), len(UNITS))
        (self.kit / "golden.txt").write_text("\n".join(rows) + "\n")

    def measure(self, *arguments, card="8.6", **more):
        env = os.environ | {"LD_LIBRARY_PATH": self.libraries, "FAKE_CUDA_CARDS": f"0000:0A:00.0,{card},6000000000,Card",
                            "PATH": f"{self.kit}/bin:{os.environ['PATH']}"} | more
        done = subprocess.run([sys.executable, self.kit / "measure_card.py", "--tiny", "--seconds=0.001", *arguments],
                              env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.returncode, done.stdout

    def without_trials(self):
        """Of int8 by other code and by libraries, which take seconds on a CPU."""
        (self.kit / "ptx/compute_75").unlink()
        self.libraries = LIBRARIES.split(":")[0]

    def bench(self, script):
        """Of the shell, in the place of the program, which is $PROGRAM to it."""
        self.program("card_bench", f"PROGRAM={PROGRAM}\n{script}")
        (self.kit / "bin/card_bench").replace(self.kit / "card_bench")

    def program(self, name, script):
        program = self.kit / "bin" / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    def assert_rows(self, words, rows):
        for row, count in rows.items():
            self.assertEqual(len(re.findall(rf"^\| {row}", words, re.MULTILINE)), count, f"{row}\n{words}")

    def test_all(self):
        self.program("compute-sanitizer",
                     '[ "$1" = --tool ] && [ "$3 $4 $5" = "--report-api-errors no --error-exitcode" ] || exit 1\nshift 6\n'
                     '"$@" | grep -q '
                     '-e "give their digest" -e "^[0-9.e-]*$" && echo "========= ERROR SUMMARY: 0 errors"')
        self.program("nvidia-smi", '[ "$2" = 0000:0A:00.0 ] || exit 1\ncase $3 in *=clocks.max.sm) echo 0.004;; '
                                   '*=driver_version) echo 550.54.15;; *) exit 1;; esac')
        code, words = self.measure("--without-pytorch")
        self.assertEqual(code, 0, words)
        self.assertIn("Card, 0000:0A:00.0, compute capability 8.6, 6.0 GB, fp32 peak 8.192e-06 TFLOP/s at 0.002 MHz; "
                      "driver for CUDA 12.4; code sm_86, int8 by m16n8k32, fast in bf16; driver 550.54.15. ", words)
        self.assertIn("\n`measure_card.py --tiny --seconds=0.001 --without-pytorch`, medians of 5 turns\n", words)
        self.assertIn("fp32 peak 1.638e-05, computed, at 0.004 MHz", words)
        self.assertIn("the program's code: 2 of 2 units give their digest", words)
        self.assertIn("compute_75, compiled by the driver: 2 of 2 units give their digest", words)
        self.assertIn("- cuBLASLt 12.9.3\n", words)
        self.assertIn("products by cuBLASLt: 2 of 2 units give their digest", words)
        self.assertIn("- NCCL 2.21.5, at one rank: all bits arrive", words)
        for half in ("bf16", "fp16"):  # of the own code, and of that for 7.5
            for model in ("GPT-2, heads of 64", "LLaMA, heads of 80"):
                self.assertRegex(words, rf"fast in {half}, {model}: [\d.e-]+ from exact-fp32, repeats itself( fast| \(\d+ s\)\n)")
        for tool in ("memcheck", "racecheck", "initcheck", "synccheck"):
            for what in ("units", "steps of a GPT-2 in fast", "steps of a LLaMA in fast"):
                self.assertIn(f"compute-sanitizer {tool}, {what}: passed; ERROR SUMMARY: 0 errors", words)
        us = r"[\d,]+\.\d"
        self.assert_rows(words, {
            rf"tiny forward \| 20 x 24 x 16 \| {us} \| [\d.]+ \| [\d.]+ \| - \| - \| - \|": 1,
            rf"tiny forward \| 20 x 24 x 16 \| {us} \| [\d.]+ \| - \| - \| - \|": 4,  # int8 and fast, in two ways each
            rf"tiny dw \| 16 x 24 x 20 \| {us} ": 5, rf"backward \| 1 x 9 x 2 x 8 \| {us} \| [\d.]+ ": 2,
            rf"copy 100 \| 0\.0 \| {us} \| \d+ \| 1\.00 \|": 1,
            **{rf"{line} \| [\d.]+ \| {us} \| \d+ \| [\d.]+ \|": 1
               for line in measure_card.TINY["MEMORY"] | measure_card.TINY["FAST_MEMORY"] | measure_card.TINY["RESULTS"]},
            **{rf"{model}, 2 x 5 \| {profile} \| [\d.]+ \| [\d,]+ \| - \| - \| - \| - \| {ratio} \| - \| - \|": 1
               for model in ("GPT-2", "LLaMA")
               for profile, ratio in (("exact-fp32", r"1\.00"), ("exact-int8-head", r"[\d.]+"), ("fast", r"[\d.]+"),
                                      ("exact-fp32, launches one by one", r"[\d.]+"),
                                      ("exact-fp32, one block at a time", r"[\d.]+"),
                                      ("exact-int8, one block at a time", r"[\d.]+"),
                                      (r"fast, by cuBLASLt [\w ]+", r"[\d.]+"))}})

    def test_the_sanitizer_sees_every_family_and_exact_profile(self):
        units = {row[0]: row for row in map(str.split, GOLDEN.read_text().splitlines()) if row and row[0] != "#"}
        seen = set()
        for name in measure_card.SHORT_UNITS.split(","):
            _, family, profile, *_ = row = units[name]
            seen.add((family.removesuffix("-tied"), profile.split("/")[0], int(row[12]) > 0))
        self.assertEqual(seen, {(family, profile, steps) for family in ("gpt2", "llama")
                                for profile in measure_card.PROFILES if profile != "fast" for steps in (False, True)})

    def test_beside_pytorch(self):
        self.without_trials()
        (self.kit / "card_peers.py").write_text(PEERS)
        code, words = self.measure("--only", "products", "attention", "steps", CC="true")
        self.assertEqual(code, 1, words)
        self.assert_rows(words, {
            r"tiny forward .* \| 1,000,000\.0 \| 0\.00 \| [\d.]{4,} \|": 1, r"tiny dx \| .* \| - \| - \| - \|": 1,
            r"forward \| 1 x 9 x 2 x 8 \| [\d,.]+ \| [\d.]+ \| [\d.]+ \| - \| - \| - \|": 1,
            r"LLaMA, 2 x 5 \| exact-int8 \| [\d.]+ \| [\d,]+ \| - \| 10 \| - \| - \| [\d.]+ \| [\d.]+ \| - \|": 1})
        self.assertEqual(words.count("given back\n"), 5, words)  # after each product and attention
        for failure in ("PyTorch beside matmul_dx 20 16 24: out of memory",
                        "PyTorch beside attention_backward 1 9 2 8: no kernel image",
                        "GPT-2, PyTorch eager fp32: out of memory", "LLaMA, PyTorch eager fp32: out of memory"):
            self.assertEqual(words.count(f"- FAILED: {failure}\n"), 1, words)
        self.assertIn("5 parts failed; each is named above.", words)

    def test_without_a_compiler(self):
        self.without_trials()
        (self.kit / "card_peers.py").write_text(PEERS)
        code, words = self.measure("--only", "steps", CC="false")
        self.assertEqual(code, 1, words)
        self.assertIn("\ntorch.compile is left out: false does not compile against Python.h (of python3-dev)\n", words)
        self.assert_rows(words, {r"LLaMA, 2 x 5 \| exact-int8 \| [\d.]+ \| [\d,]+ \| - \| no compiler \| - \| no compiler \|": 1})
        self.assertNotIn("FAILED: LLaMA, PyTorch compiled", words)

    def test_what_fails_on_the_card_is_named_and_the_rest_goes_on(self):
        self.without_trials()
        code, words = self.measure("--without-pytorch", "--only", "memory", FAKE_CUDA_FAIL="cuMemAlloc_v2,0,2,100")
        self.assertEqual(code, 1, words)
        lines = list(measure_card.TINY["MEMORY"] | measure_card.TINY["FAST_MEMORY"])
        failed = re.findall(r"^- FAILED: (\w+ [\d ]+): .*0000:0A:00.0.*cuMemAlloc_v2", words, re.MULTILINE)
        self.assertTrue(0 < len(failed) < len(lines) / 2, words)
        for line in lines:
            self.assert_rows(words, {rf"{line} \| [\d.]+ \| {'-' if line in failed else '[0-9]'}": 1})

    def test_a_card_that_answers_nothing_is_given_up(self):
        self.program("card_bench", "echo card_bench: the card hangs; exit 1")
        with unittest.mock.patch("measure_card.HERE", self.kit / "bin"):
            bench = measure_card.Bench(0, "operations")
            words = []
            for _ in range(measure_card.GIVE_UP_AFTER + 1):
                with self.assertRaises(RuntimeError) as raised:
                    bench.ask("add 100 1")
                words.append(str(raised.exception))
        self.assertEqual(words, ["card_bench: the card hangs"] * measure_card.GIVE_UP_AFTER + ["given up after the lines before it"])

    def test_a_machine_without_nvidia_smi(self):
        self.without_trials()
        self.program("nvidia-smi", "exit 9")
        code, words = self.measure("--without-pytorch", "--only", "attention", FAKE_CUDA_CARDS="0000:0a:00.0,8.6,6000000000,Card")
        self.assertEqual(code, 0, words)
        self.assertIn("; driver ", words)
        self.assertIn("fp32 peak 8.192e-06, computed, at 0.002 MHz", words)

    def test_the_version_of_the_kernel_module(self):
        file = self.kit / "version"
        with unittest.mock.patch("card_machine.DRIVER", file), \
                unittest.mock.patch("card_machine.ask_nvidia_smi", return_value=None):
            for words, version in (
                    ("NVIDIA UNIX x86_64 Kernel Module  450.248.02  Tue Jun  6 22:20:39 UTC 2023\nGCC version:  gcc 12.2.0", "450.248.02"),
                    ("NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)", "580.65.06")):
                file.write_text(f"NVRM version: {words}\n")
                self.assertEqual(measure_card.card_machine.driver_version("0000:0A:00.0"), version)

    def test_a_newer_card_has_no_peak(self):
        self.without_trials()
        # It takes the code for 7.5, whose trial of int8 takes a quarter of a minute: once will do.
        self.bench('[ "$2" = info ] || export FAKE_CUDA_CARDS=0000:0A:00.0,8.6,6000000000,Card\n$PROGRAM "$@"')
        code, words = self.measure("--without-pytorch", "--only", "attention", card="13.0")
        self.assertEqual(code, 0, words)
        self.assertIn("fp32 peak not known", words)
        self.assert_rows(words, {r"forward \| 1 x 9 x 2 x 8 \| [\d,.]+ \| [\d.]+ \| - \|": 1})

    def test_a_card_without_fast(self):
        code, words = self.measure("--without-pytorch", "--only", "golden", "fast", "steps", card="6.1")
        self.assertEqual(code, 0, words)
        self.assertIn("- compute_75: not for this card", words)
        self.assertIn("This card does not compute `fast`", words)
        self.assertNotIn("| fast |", words)

    def test_a_wrong_digest_ends_it(self):
        self.without_trials()
        rows = (self.kit / "golden.txt").read_text().splitlines()
        self.units([rows[0], rows[1][:-1] + ("0" if rows[1][-1] != "0" else "1")])
        code, words = self.measure("--without-pytorch")
        self.assertEqual(code, 1)
        self.assertIn(f"the program's code: {rows[1].split()[0]} gives another digest 1 of 2 units give their digest", words)
        self.assertIn("Golden digests are wrong, or fast or NCCL is", words)
        self.assertNotIn("|", words, "no figures")

    def test_libraries_of_python_packages(self):
        self.without_trials()
        folders = [self.kit / "packages/nvidia" / name / "lib" for name in ("cu12", "nccl")]
        for folder in folders:
            folder.mkdir(parents=True)
        (folders[0] / "libcublasLt.so.12").touch()  # the real one would take seconds
        (folders[1] / "libnccl.so.2").symlink_to(pathlib.Path(LIBRARIES.split(":")[1]) / "libnccl.so.2")
        code, words = self.measure("--without-pytorch", "--only", "golden", PYTHONPATH=self.kit / "packages")
        self.assertEqual(code, 0, words)
        self.assertRegex(words, rf"libcublasLt\.so\.12 in {folders[0]}[;\n]")
        self.assertRegex(words, rf"libnccl\.so\.2 in {folders[1]}[;\n]")
        self.assertIn(f"no cuBLASLt ({folders[0]}/libcublasLt.so.12: file too short", words)
        self.assertIn("- NCCL 2.21.5, at one rank: all bits arrive", words)

    def test_a_driver_too_old_for_the_ptx(self):
        self.libraries = LIBRARIES.split(":")[0]
        self.bench('case "$*" in *--ptx*) echo card_bench: a newer one is needed; exit 1;; esac\n$PROGRAM "$@"')
        code, words = self.measure("--without-pytorch", "--only", "golden")
        self.assertEqual(code, 1, words)
        self.assertIn("- FAILED: compute_75, compiled by the driver: the driver is too old\n", words)

    def with_nccl(self):
        self.without_trials()
        self.libraries = LIBRARIES.rpartition(":")[0]

    def test_wrong_bits_by_nccl_end_it(self):
        self.with_nccl()
        code, words = self.measure("--without-pytorch", FAKE_NCCL_FAIL="transfer,0")
        self.assertEqual(code, 1)
        self.assertIn("- card_bench: NCCL 2.21.5: other bits arrived than were sent", words)
        self.assertIn("Golden digests are wrong, or fast or NCCL is", words)
        self.assertNotIn("|", words, "no figures")

    def test_nccl_that_fails_is_named(self):
        self.with_nccl()
        code, words = self.measure("--without-pytorch", "--only", "golden", FAKE_NCCL_FAIL="ncclCommInitAll,0")
        self.assertEqual(code, 1)
        self.assertRegex(words, "\n- FAILED: NCCL: card_bench: .*ncclCommInitAll: unhandled system error")
        self.assertIn("1 parts failed", words)

    def test_in_parts(self):
        self.without_trials()
        self.program("compute-sanitizer", 'echo "========= ERROR SUMMARY: 0 errors"')
        code, words = self.measure("--without-pytorch", "--after-golden", "--only", "sanitizer", "steps", "--tools", "racecheck",
                                   "--models", "LLaMA")
        self.assertEqual(code, 0, words)
        self.assertNotIn("give their digest", words)
        self.assertIn("compute-sanitizer racecheck, units: passed", words)
        self.assertNotIn("memcheck, units", words)
        self.assert_rows(words, {"LLaMA, 2 x 5 \\| exact-fp32 ": 1, "GPT-2": 0})
        self.assertRegex(words, r"\nThe section steps took \d+ s\.\n")
        self.assertEqual(self.measure("--without-pytorch", "--models", "GPT-3")[0], 2)

    def test_a_finding_of_the_sanitizer_is_shown(self):
        self.without_trials()
        self.program("compute-sanitizer", 'echo "========= Invalid __global__ write of size 4 bytes"; exit 9')
        code, words = self.measure("--without-pytorch", "--only", "sanitizer")
        self.assertEqual(code, 1, words)
        self.assertIn("compute-sanitizer racecheck, units: FAILED", words)
        self.assertIn("- FAILED: compute-sanitizer racecheck, units\n", words)
        self.assertIn("Invalid __global__ write", words)
        self.assertNotIn("|", words, "only this section")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[6:], verbosity=2)
