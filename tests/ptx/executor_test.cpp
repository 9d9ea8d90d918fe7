// The executor runs PTX as NVIDIA's "PTX ISA" says, and finds what a card would fail on or leave undefined.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "../simt/launcher.h"
#include "grid.h"

namespace ptx {
namespace {

struct Args {
  void* y;
  uint32_t number = 0, padding = 0;
};

// Runs a kernel whose body finds its lane in %r0, y in %rd0 and the place of the thread's word there in %rd1, and
// returns y.
class PtxExecutor : public testing::Test {
 protected:
  std::vector<uint32_t> run(const std::string& body, uint32_t threads = 32, uint32_t shared_bytes = 0,
                            uint32_t number = 0) {
    const std::string text = R"(.version 7.8
.extern .shared .align 16 .b8 dynamic_shared[];
.visible .entry tested(
	.param .align 8 .b8 tested_param_0[16]
)
.maxntid 128, 1, 1
{
	.reg .b32 	%r<9>;  // of no use here
	.shared .align 4 .b8 words[64];
	ld.param.u64 	%rd0, [tested_param_0];
	ld.param.u32 	%r9, [tested_param_0+8];
	mov.u32 	%r0, %tid.x;
	mul.wide.u32 	%rd9, %r0, 4;
	add.s64 	%rd1, %rd0, %rd9;
)" + body + "\n}\n";
    std::vector<uint32_t> y(std::max(threads, 32u), 7);
    const Args args{y.data(), number};
    LoadedKernel(read_kernel(kernel_texts(text).at("tested")))
        .run({.kernel = "tested",
              .block = {threads, 1, 1},
              .shared_bytes = shared_bytes,
              .args = &args,
              .args_bytes = sizeof args});
    return y;
  }
  std::string failure(const std::string& body, uint32_t threads = 32) {
    try {
      run(body, threads);
    } catch (const simt::Failure& failure) {
      return failure.what();
    }
    return "no failure";
  }
  // What an instruction makes of words in the registers %r1 to %r4, in %r8.
  uint32_t result(const std::string& instruction, std::initializer_list<uint32_t> operands) {
    std::string body;
    int number = 1;
    for (const uint32_t word : operands)
      body += "mov.u32 %r" + std::to_string(number++) + ", " + std::to_string(word) + ";\n";
    return run(body + instruction + ";\nst.global.u32 [%rd1], %r8;\nret;").at(5);
  }
  static uint32_t bits(float x) { return std::bit_cast<uint32_t>(x); }
};

TEST_F(PtxExecutor, LanesThatPartComeTogether) {
  // Lane l counts to l, odd ones twice as far, in code that lies behind what follows; then all sum by a butterfly.
  const std::vector<uint32_t> y = run(R"(
	mov.u32 	%r1, 0;
	and.b32 	%r2, %r0, 1;
	setp.eq.s32 	%p1, %r2, 1;
	@%p1 bra 	$odd;
$loop:
	setp.ge.u32 	%p2, %r1, %r0;
	@%p2 bra 	$sum;
	add.s32 	%r1, %r1, 1;
	bra.uni 	$loop;
$sum:
	shfl.sync.bfly.b32 	%r3|%p3, %r1, 1, 31, -1;
	add.s32 	%r1, %r1, %r3;
	st.global.u32 	[%rd1], %r1;
	ret;
$odd:
	add.s32 	%r1, %r0, %r0;
	bra.uni 	$sum;)");
  for (uint32_t lane = 0; lane < 32; ++lane) EXPECT_EQ(y[lane], (lane & ~1u) + 2 * (lane | 1)) << lane;
}

TEST_F(PtxExecutor, BarriersAndSharedMemory) {
  const std::string body = R"(
	shl.b32 	%r1, %r0, 2;
	mov.u32 	%r2, dynamic_shared;
	add.s32 	%r2, %r2, %r1;
	st.shared.u32 	[%r2], %r0;
	bar.sync 	0;
	mov.u32 	%r3, dynamic_shared;
	add.s32 	%r4, %r3, 252;
	sub.s32 	%r4, %r4, %r1;
	ld.shared.u32 	%r5, [%r4];
	st.global.u32 	[%rd1], %r5;
	ret;)";
  const std::vector<uint32_t> y = run(body, 64, 256);
  for (uint32_t thread = 0; thread < 64; ++thread) EXPECT_EQ(y[thread], 63 - thread);
  EXPECT_THROW(run(body, 64, 252), simt::Failure);
}

TEST_F(PtxExecutor, SharedMemoryIsPoisoned) {
  for (const uint32_t word : run("ld.shared.u32 %r1, [words+16];\nst.global.u32 [%rd1], %r1;\nret;"))
    EXPECT_EQ(word, 0xffffffff);
}

TEST_F(PtxExecutor, BarrierDivergence) {
  const auto only_from = [](int thread) {
    return "setp.lt.u32 %p1, %r0, " + std::to_string(thread) + ";\n@%p1 bra $end;\nbar.sync 0;\n$end:\nret;";
  };
  EXPECT_EQ(failure(only_from(0), 64), "no failure");
  EXPECT_NE(failure(only_from(5), 64).find("kernel tested"), std::string::npos);
  EXPECT_NE(failure(only_from(32), 64).find("not all warps"), std::string::npos);
  EXPECT_NE(failure("setp.lt.u32 %p1, %r0, 5;\n@%p1 bra $b;\nbar.sync 0;\nret;\n$b:\nbar.sync 0;\nret;")
                .find("some lanes wait here"),
            std::string::npos);
}

TEST_F(PtxExecutor, OperationsOfAWarpNeedTheLanesOfTheirMask) {
  const std::string ended = "setp.gt.u32 %p1, %r0, 20;\n@%p1 bra $end;\n";
  const std::string shuffle = "shfl.sync.idx.b32 %r1|%p2, %r0, 3, 31, ";
  const std::string rest = ";\nst.global.u32 [%rd1], %r1;\n$end:\nret;";
  EXPECT_EQ(run(shuffle + "-1" + rest), std::vector<uint32_t>(32, 3));
  EXPECT_EQ(run(ended + shuffle + "2097151" + rest)[20], 3u);
  EXPECT_EQ(run(ended + shuffle + "2097151" + rest)[21], 7u);
  EXPECT_NE(failure(ended + shuffle + "-1" + rest).find("some lanes wait here"), std::string::npos);
  EXPECT_NE(failure(shuffle + "-1" + rest, 20).find("lane 20 has ended"), std::string::npos);
  EXPECT_NE(failure(ended + "shfl.sync.idx.b32 %r1|%p2, %r0, 24, 31, 2097151" + rest).find("its mask leaves out"),
            std::string::npos);
}

TEST_F(PtxExecutor, AddressesAreAlignedAndInside) {
  EXPECT_EQ(failure("st.global.v4.f32 [%rd0], {%r0, %r0, %r0, %r0};\nret;"), "no failure");
  for (const char* body : {"st.global.v2.u32 [%rd0+4], {%r0, %r0};", "ld.global.u32 %r1, [%rd0+2];",
                           "ld.shared.u32 %r1, [words+61];", "st.shared.u32 [words+64], %r0;",
                           "st.shared.u32 [words+-4], %r0;", "ld.param.u64 %rd2, [tested_param_0+16];"}) {
    const std::string message = failure(body + std::string("\nret;"));
    EXPECT_NE(message.find(std::string("`") + std::string(body, std::strlen(body) - 1) + "`: address"),
              std::string::npos)
        << body << ": " << message;
  }
}

TEST_F(PtxExecutor, CopiesAreThereOnceTheThreadHasWaited) {
  const std::string begin = R"(
	st.global.u32 	[%rd1], %r0;
	mov.u32 	%r1, dynamic_shared;
	cp.async.cg.shared.global [%r1], [%rd0], 16, %r9;
)";
  const std::string wait = "cp.async.wait_all;\n", look = "ld.shared.u32 %r2, [%r1];\nst.global.u32 [%rd1], %r2;\n";
  EXPECT_EQ(run(begin + wait + look + "ret;", 1, 16, 16)[0], 0u);
  EXPECT_EQ(run(begin + wait + look + "ret;", 1, 16, 0)[0], 0u);
  EXPECT_EQ(run(begin + look + wait + "ret;", 1, 16, 16)[0], 0xffffffff);
  EXPECT_THROW(run(begin + look + "ret;", 1, 16, 16), simt::Failure);
}

TEST_F(PtxExecutor, RefusesWhatItWasNotCompiledFor) {
  EXPECT_THROW(run("ret;", 129), std::invalid_argument);
  try {
    run("tanh.approx.f32 %r1, %r0;\nret;");
    FAIL();
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "PTX of tested, `tanh.approx.f32 %r1, %r0`: not an instruction of this executor");
  }
  EXPECT_THROW(run("add.s32 %r1, %r0;\nret;"), std::runtime_error);
  EXPECT_THROW(run("add.s32 %r1, %r0, nothing;\nret;"), std::runtime_error);
  EXPECT_THROW(run("mov.u32 %r1, %laneid;\nret;"), std::runtime_error);
  EXPECT_THROW(run("mov.u32 %r1, %tid.w;\nret;"), std::runtime_error);
  EXPECT_THROW(run("bra $nowhere;\nret;"), std::runtime_error);
}

// By the pages of the PTX ISA.
TEST_F(PtxExecutor, Bits) {
  EXPECT_EQ(result("prmt.b32 %r8, %r1, %r2, 30258", {0x33221100, 0x77665544}), 0x77663322u);
  EXPECT_EQ(result("prmt.b32 %r8, %r1, %r2, %r3", {0x00008000, 0, 0x9999}), 0xffffffffu);
  EXPECT_EQ(result("bfi.b32 %r8, %r1, %r2, 3, 4", {0xf5, 0xffffffff}), 0xffffffafu);
  EXPECT_EQ(result("bfi.b32 %r8, %r1, %r2, 1, 31", {0x7fffffff, 0}), 0xfffffffeu);
  EXPECT_EQ(result("bfe.u32 %r8, %r1, 4, 8", {0xabcd}), 0xbcu);
  EXPECT_EQ(result("bfind.shiftamt.u32 %r8, %r1", {0x00010000}), 15u);
  EXPECT_EQ(result("bfind.shiftamt.u32 %r8, %r1", {0}), 0xffffffffu);
  EXPECT_EQ(result("brev.b32 %r8, %r1", {0x80000002}), 0x40000001u);
  EXPECT_EQ(result("shf.l.wrap.b32 %r8, %r1, %r2, 36", {0x12345678, 0x9abcdef0}), 0xabcdef01u);
  EXPECT_EQ(result("shl.b32 %r8, %r1, %r2", {1, 32}), 0u);
  EXPECT_EQ(result("shr.s32 %r8, %r1, %r2", {0x80000000, 40}), 0xffffffffu);
  EXPECT_EQ(result("shr.s16 %r8, %r1, 8", {0x8000}), 0xff80u);
  EXPECT_EQ(result("dp4a.s32.s32 %r8, %r1, %r2, %r3", {0x807f01ff, 0x80ff0203, 10}), 16384u - 127 + 2 - 3 + 10);
  EXPECT_EQ(result("mul.wide.s32 %rd8, %r1, %r1;\ncvt.u32.u64 %r8, %rd8", {0xffffffff}), 1u);
  EXPECT_EQ(result("selp.b32 %r8, %r1, %r2, %p1", {4, 5}), 4u);  // registers are poisoned, predicates, too
}

TEST_F(PtxExecutor, Floats) {
  const uint32_t nan = bits(std::numeric_limits<float>::quiet_NaN());
  EXPECT_EQ(result("fma.rn.f32 %r8, %r1, %r1, %r2", {bits(1 + 0x1p-12f), bits(-1)}), bits(0x1p-11f + 0x1p-24f));
  EXPECT_EQ(result("max.f32 %r8, %r1, %r2", {nan, bits(-3)}), bits(-3));
  EXPECT_EQ(result("neg.f32 %r8, %r1", {0}), 0x80000000u);
  EXPECT_EQ(result("cvt.rni.s32.f32 %r8, %r1", {bits(2.5f)}), 2u);
  EXPECT_EQ(result("cvt.rzi.s32.f32 %r8, %r1", {bits(-2.9f)}), static_cast<uint32_t>(-2));
  EXPECT_EQ(result("cvt.rni.s32.f32 %r8, %r1", {bits(1e20f)}), 0x7fffffffu);
  EXPECT_EQ(result("cvt.rni.s32.f32 %r8, %r1", {nan}), 0u);
  EXPECT_EQ(result("cvt.rn.bf16x2.f32 %r8, %r1, %r2", {bits(1), bits(-2)}), 0x3f80c000u);
  EXPECT_EQ(result("cvt.rn.f16.f32 %r8, %r1", {bits(1)}), 0x3c00u);
  EXPECT_EQ(result("setp.lt.f32 %p1, %r1, %r2;\nselp.b32 %r8, 1, 0, %p1", {nan, bits(1)}), 0u);
  EXPECT_EQ(result("setp.ltu.f32 %p1, %r1, %r2;\nselp.b32 %r8, 1, 0, %p1", {nan, bits(1)}), 1u);
  EXPECT_EQ(result("mov.f32 %r8, 0f40490FDB", {}), 0x40490fdbu);
}

}  // namespace
}  // namespace ptx
