// Products of the AVX-512 paths, which are tuned for two makers' processors.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "cpu/kernel_table.h"

namespace kernels {
namespace {

struct alignas(64) Line {
  float floats[16];
};

std::vector<float> product(const KernelTable& kernels, Matmul op) {
  std::vector<Line> buffer(kernels.gemm_buffer / 16 + 1);
  std::vector<float> c(op.m * op.n, 1.0f);
  op.c = c.data(), op.ldc = op.n, op.accumulate = true;
  kernels.matmul(op, buffer[0].floats);
  return c;
}

void expect_the_same_bits(const KernelTable& one, const KernelTable& other) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> values(-1, 1);
  for (int draw = 0; draw < 40; ++draw) {
    const auto size = [&](size_t most) { return random() % most + 1; };
    Matmul op{.m = size(150), .n = size(500), .k = draw % 4 == 0 ? size(5000) : size(200)};
    std::vector<float> a(op.m * op.k), b(op.k * op.n);
    for (float& x : a) x = values(random);
    for (float& x : b) x = values(random);
    op.a = a.data(), op.b = b.data();
    if (draw % 2 == 0) {
      op.a_row = op.k;
    } else {
      op.a_row = 1, op.a_col = op.m;
    }
    if (draw % 3 == 0) {
      op.b_row = 1, op.b_col = op.k;
    } else {
      op.b_row = op.n;
    }
    EXPECT_EQ(product(one, op), product(other, op)) << op.m << " x " << op.n << " x " << op.k;
  }
}

TEST(Gemm, EachTuningGivesTheSameBits) {
  bool tested = false;
  for (const Simd simd : usable_simd()) {
    if (simd == Simd::avx512vnni) {
      tested = true;
      expect_the_same_bits(avx512vnni_kernels(Tuning::intel), avx512vnni_kernels(Tuning::amd));
    }
    if (simd == Simd::avx512) {
      tested = true;
      expect_the_same_bits(avx512_kernels(Tuning::intel), avx512_kernels(Tuning::amd));
    }
  }
  if (!tested) GTEST_SKIP() << "no AVX-512";
}

}  // namespace
}  // namespace kernels
