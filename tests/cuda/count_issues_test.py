"""kernels/bench/count_issues.py on a part of the disassembly of one of our kernels, with a stand-in for nvdisasm.

usage: count_issues_test.py COUNT_ISSUES
"""
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = pathlib.Path(sys.argv.pop(1))
# Of matmul_32_tt, shortened: a loop without products inside one with them, a load that is skipped at the end, FFMAs of
# one bank with and without .reuse, and what follows the loop. Of another kernel a loop with products of matrices, and what
# follows those in a loop with more products of numbers.
DISASSEMBLY = """
	.headerflags	@"EF_CUDA_TEXMODE_UNIFIED EF_CUDA_64BIT_ADDRESS EF_CUDA_SM{architecture}"
	.section	.text.matmul_32_tt,"ax",@progbits
        /*0000*/                   LDC R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   FFMA R40, R48, R32, R40 ;
.L_x_2:
        /*0020*/                   ISETP.NE.AND P1, PT, R5, RZ, PT ;
        /*0030*/               @P1 BRA `(.L_x_2) ;
        /*0040*/              @!P0 BRA `(.L_x_3) ;
        /*0050*/                   LDG.E.128 R12, desc[UR10][R18.64] ;
.L_x_3:
        /*0060*/                   LDS.128 R48, [R11+0x240] ;
        /*0070*/                   FFMA R40, R48.reuse, R32, R40 ;
        /*0080*/                   FFMA R42, R48.reuse, R34, R42 ;
        /*0090*/                   FFMA R43, R48, R35.reuse, R43 ;
        /*00a0*/                   FFMA R45, R49, R35, -R45 ;
        /*00b0*/                   FFMA R47, R51, R37, R47 ;
        /*00c0*/                   FFMA R47, R51, R37, c[0x0][0x28] ;
        /*00d0*/                   STS [R11], R12 &req={{5}} ?trans1;
        /*00e0*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*00f0*/        {{         @P0 BRA `(.L_x_1)         }}
        /*0100*/                   FFMA R40, R48, R32, R40 ;
        /*0110*/                   EXIT ;
	.section	.text.matmul_add_chunks,"ax",@progbits
        /*0000*/                   FADD R1, R2, R3 ;
        /*0010*/                   EXIT ;
	.section	.text.flash,"ax",@progbits
.L_x_4:
        /*0000*/                   LDSM.16.M88.4 R4, [R2] ;
        /*0010*/                   HMMA.16816.F32.BF16 R8, R4, R12, R8 ;
        /*0020*/                   IMMA.16832.S8.S8 R16, R4.ROW, R12.COL, R16 ;
        /*0030*/              @P0  BRA `(.L_x_4) ;
.L_x_5:
        /*0040*/                   FFMA R8, R8, R9, R8 ;
        /*0050*/                   FFMA R8, R8, R9, R8 ;
        /*0060*/                   FFMA R8, R8, R9, R8 ;
        /*0070*/              @P0  BRA `(.L_x_5) ;
"""
HEAD = ("| kernel | code | instructions | FFMA | HMMA | IMMA | LDS | LDG | other | share | bank conflicts |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|\n")


class CountIssues(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        self.nvdisasm = self.folder / "nvdisasm"
        self.disassembler("cat $2")

    def disassembler(self, script):
        self.nvdisasm.write_text(f"#!/bin/sh\n{script}\n")
        self.nvdisasm.chmod(0o755)

    def count(self, *arguments, architecture=90):
        cubin = self.folder / "matmul.cubin"
        cubin.write_text(DISASSEMBLY.format(architecture=architecture))
        return subprocess.run([sys.executable, PROGRAM, cubin, *arguments], stdin=subprocess.DEVNULL, text=True,
                              capture_output=True)

    def assert_table(self, done, *rows):
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout, HEAD + "".join(row + "\n" for row in rows))

    def test_the_hottest_loop_of_each_kernel(self):
        # Conflicts: twice 48, 32 and 40, once 51, 37 and 47.
        self.assert_table(self.count("--nvdisasm", self.nvdisasm),
                          "| matmul_32_tt | sm_90 | 15 | 7 | 0 | 0 | 1 | 1 | 6 | 0.467 | 3 |",
                          "| flash | sm_90 | 4 | 0 | 1 | 1 | 1 | 0 | 1 | 0.500 | 0 |")

    def test_kernels_by_name_and_no_two_banks_before_volta(self):
        self.assert_table(self.count("--nvdisasm", self.nvdisasm, "--kernels", "^mat", architecture=61),
                          "| matmul_32_tt | sm_61 | 15 | 7 | 0 | 0 | 1 | 1 | 6 | 0.467 | - |")
        self.assert_table(self.count("--nvdisasm", self.nvdisasm, "--kernels", "none"))

    def assert_refused(self, done, words):
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn(words, done.stderr)

    def test_what_it_refuses(self):
        missing = self.folder / "missing"
        self.assert_refused(self.count("--nvdisasm", missing),
                            f"{missing}: No such file or directory; it comes with the CUDA toolkit, --nvdisasm tells")
        self.assert_refused(self.count("--nvdisasm", self.nvdisasm, "--kernels", "("), "unterminated subpattern")
        self.disassembler("echo not an Elf file >&2; exit 1")
        self.assert_refused(self.count("--nvdisasm", self.nvdisasm), "matmul.cubin is no cubin: not an Elf file")


if __name__ == "__main__":
    unittest.main()
