"""packaging/cuda/compile.py and embed.py refuse what they are there to refuse. They need NVIDIA's compiler library, no card.

usage: compile_test.py TOOLS LIBNVRTC
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

GOOD = """  // with a letter beyond ASCII: Σ
extern "C" __global__ void good(float* x) {
  __shared__ float shared[64];
  shared[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = shared[threadIdx.x ^ 1] * x[64] + x[65];
}
"""
# 64 values at once in at most 32 registers.
SPILLS = """
extern "C" __global__ void __launch_bounds__(1024, 2) spills(float* x) {
  float a[64];
  for (int i = 0; i < 64; ++i) a[i] = x[i * 32 + threadIdx.x];
  for (int k = 0; k < 10; ++k)
    for (int i = 0; i < 64; ++i) a[i] = a[i] * a[(i * 7 + 3) & 63] + 1.0f;
  for (int i = 0; i < 64; ++i) x[i * 32 + threadIdx.x] = a[i];
}
"""


class Compile(unittest.TestCase):
    tools = library = None

    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)

    def compile(self, text, *architectures):
        source = self.folder / "source.cu"
        source.write_text(text, encoding="utf-8")
        return subprocess.run(["/usr/bin/python3", self.tools / "compile.py", self.library, source, self.folder, self.folder,
                               *architectures], text=True, capture_output=True)

    def embed(self, *architectures):
        return subprocess.run(["/usr/bin/python3", self.tools / "embed.py", self.folder, "--sources", "source",
                               "--architectures", *architectures], text=True, capture_output=True)

    def test_registers_and_shared_memory_are_tabled(self):
        self.assertEqual(self.compile(GOOD, "sm_60", "sm_86", "compute_75").returncode, 0)
        done = self.embed("sm_60", "sm_86", "compute_75")
        self.assertEqual(done.returncode, 0, done.stderr)
        heading, *rows = (self.folder / "kernels.txt").read_text().splitlines()
        self.assertRegex(heading, "^source +kernel +architecture +registers +shared +stack +spill stores +spill loads$")
        self.assertEqual(len(rows), 2)
        self.assertRegex(rows[0], r"^source +good +sm_60 +\d+ +256 +0 +0 +0$")

    def test_a_product_and_a_sum_stay_two_roundings(self):
        self.assertEqual(self.compile(GOOD, "compute_75").returncode, 0)
        ptx = (self.folder / "source.compute_75.ptx").read_text()
        self.assertTrue(re.search(r"mul\.rn\.f32", ptx) and re.search(r"add\.rn\.f32", ptx), ptx)
        self.assertNotIn("fma", ptx)

    def test_a_kernel_that_spills_is_refused(self):
        self.assertEqual(self.compile(GOOD, "sm_60").returncode, 0)
        self.assertEqual(self.embed("sm_60").returncode, 0)
        self.assertTrue((self.folder / "code.S").exists())
        self.assertEqual(self.compile(GOOD + SPILLS, "sm_60").returncode, 0)
        done = self.embed("sm_60")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"source +spills +sm_60 +32")
        self.assertNotIn("good", done.stderr)
        self.assertIn("good", (self.folder / "kernels.txt").read_text())
        self.assertFalse((self.folder / "code.S").exists(), "a build that goes on would carry it")

    def test_an_architecture_without_a_kernel_is_left_out(self):
        newer = GOOD.replace('extern "C"', '#if __CUDA_ARCH__ >= 800\nextern "C"') + "#endif\n"
        self.assertEqual(self.compile(newer, "sm_60", "sm_80").returncode, 0)
        done = self.embed("sm_60", "sm_80")
        self.assertEqual(done.returncode, 0, done.stderr)
        heading, *rows = (self.folder / "kernels.txt").read_text().splitlines()
        self.assertEqual([row.split()[:3] for row in rows], [["source", "good", "sm_80"]])
        code = (self.folder / "code_table.cpp").read_text()
        self.assertIn("sm_60[] = {};", code)
        self.assertNotIn("cuda_source_sm_60", code + (self.folder / "code.S").read_text())

    def test_approximate_operations_are_refused(self):
        for operation in ("expf(x[1])", "rsqrtf(x[1])", "__fdividef(x[1], x[2])", "__expf(x[1])", "__fmul_rz(x[1], x[2])"):
            with self.subTest(operation):
                done = self.compile(f'extern "C" __global__ void k(float* x) {{ x[0] = {operation}; }}', "compute_75")
                self.assertEqual(done.returncode, 1)
                self.assertIn("not correctly rounded", done.stderr)

    def test_fast_kernels_alone_have_the_cards_own_powers_of_two(self):
        def kernel(name, operation):
            return (f'extern "C" __global__ void {name}(float* x) '
                    f'{{ asm("{operation} %0, %1;" : "=f"(x[0]) : "f"(x[1])); }}\n')
        power, root = "ex2.approx.ftz.f32", "rsqrt.approx.f32"
        for source, refused in ((kernel("k_bf16", power) + kernel("l_fp16", "lg2.approx.f32"), None),
                                (kernel("k_bf16", root), root), (kernel("k", power), power),
                                (kernel("k_fp16", power) + kernel("k_fp16_sums", power), power)):
            with self.subTest(source):
                done = self.compile(source, "compute_75")
                self.assertEqual(done.returncode, 1 if refused else 0, done.stderr)
                self.assertTrue(not refused or done.stderr.rstrip().endswith(f": {refused}"), done.stderr)

    def test_correctly_rounded_operations_pass(self):
        body = "x[0] = __fmaf_rn(x[1], x[2], x[3]) / __fsqrt_rn(x[4]) - 1.0f / x[5] + x[6] * __fdiv_rn(x[7], x[8]);"
        done = self.compile(f'extern "C" __global__ void k(float* x) {{ {body} }}', "compute_75")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_an_error_names_file_and_line(self):
        done = self.compile('extern "C" __global__ void k(float* x) {\n  x[0] = y;\n}\n', "sm_60")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f'{self.folder}/source.cu(2): error: identifier "y" is undefined', done.stderr)

    def test_a_log_of_another_form_is_an_error(self):
        (self.folder / "source.sm_60.log").write_text("ptxas info: Compiling entry function 'k'\nUsed 8 registers\n")
        done = self.embed("sm_60")
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot read what the assembler said", done.stderr)
        (self.folder / "source.sm_60.log").write_text("")
        self.assertIn("cannot read what the assembler said", self.embed("sm_60").stderr)


if __name__ == "__main__":
    Compile.library = sys.argv.pop(2)
    Compile.tools = pathlib.Path(sys.argv.pop(1))
    unittest.main()
