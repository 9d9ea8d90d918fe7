// fast_matmul.cu against sums in binary64 of the same rounded operands.
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "cuda_host/matmul_launch.h"
#include "fast_test_util.h"

namespace kernels::cuda {
namespace {

using test::both_halves;
using test::both_orders;
using test::expect_same_bits;
using test::poisoned;
using test::Random;
using test::Values;

constexpr uint32_t fast_tiles[] = {128, 64};

struct FastMatmulCase {
  size_t m, n, k;
  bool a_transposed, b_transposed;
  size_t padding;  // of lines, so that they are aligned or not
  size_t epilogue;

  std::string text() const {
    return std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k) +
           (a_transposed ? ", a transposed" : "") + (b_transposed ? ", b transposed" : "") + ", epilogue " +
           std::to_string(epilogue);
  }
};

void check_fast_matmul(Random& random, const FastMatmulCase& shape, uint32_t tile, HalfPrecision half) {
  const auto& [m, n, k, a_transposed, b_transposed, padding, epilogue] = shape;
  const size_t lda = (a_transposed ? m : k) + padding, ldb = (b_transposed ? k : n) + padding, ldc = n + padding;
  const Values a = random.values(lda * (a_transposed ? k : m)), b = random.values(ldb * (b_transposed ? n : k));
  const Values bias = random.values(n), residual = random.values(m * ldc);
  const Values c0 = epilogue >= 3 ? random.values(m * ldc) : poisoned(m * ldc);
  Values results[2] = {c0, c0};
  Matmul op{.m = m, .n = n, .k = k, .a = a.data(), .b = b.data(), .ldc = ldc};
  op.a_row = a_transposed ? 1 : lda, op.a_col = a_transposed ? lda : 1;
  op.b_row = b_transposed ? 1 : ldb, op.b_col = b_transposed ? ldb : 1;
  if (epilogue == 1 || epilogue == 2) op.bias = bias.data();
  if (epilogue == 2) op.residual = residual.data();
  op.accumulate = epilogue == 4;
  for (size_t i = 0; i < 2; ++i) {
    op.c = results[i].data();
    if (epilogue == 3) op.residual = op.c;
    simt::SimtLauncher device(both_orders[i]);
    launch_fast_matmul(op, tile, half, device);
  }
  const std::string what = shape.text() + ", tile " + std::to_string(tile) + ", " + name_of(half);
  expect_same_bits(results[1], results[0], what);
  op.c = results[0].data();
  if (epilogue == 3) op.residual = op.c;
  test::expect_near_sums(op, test::rounded(a, half), test::rounded(b, half), c0, results[0], what);
  for (size_t i = 0; i < m * ldc; ++i) {  // what lies between the rows
    if (i % ldc >= n) expect_same_bits({results[0][i]}, {c0[i]}, what + ", padding");
  }
}

void check_all(Random& random, size_t m, size_t n, size_t k, size_t padding) {
  for (const uint32_t tile : fast_tiles) {
    for (const HalfPrecision half : both_halves) {
      for (const bool a_transposed : {false, true}) {
        for (const bool b_transposed : {false, true}) {
          check_fast_matmul(random, {m, n, k, a_transposed, b_transposed, padding, random.between(0, 4)}, tile, half);
        }
      }
    }
  }
}

TEST(CudaFastMatmul, RandomShapes) {
  Random random(1);
  for (int i = 0; i < 4; ++i)
    check_all(random, random.between(1, 150), random.between(1, 150), random.between(1, 100), random.between(0, 4));
}

TEST(CudaFastMatmul, AlignedShapes) {
  Random random(2);
  check_all(random, 136, 128, 64, 0);
  check_all(random, 64, 60, 32, 4);
}

// Edges of the slices of 32 terms, no term, and one row, as sample() has.
TEST(CudaFastMatmul, EdgesOfSlices) {
  Random random(3);
  for (const size_t k : {0, 1, 2, 31, 33, 65}) check_all(random, random.between(1, 9), random.between(1, 9), k, 1);
  check_all(random, 1, 77, 40, 0);
}

TEST(CudaFastMatmul, LongSums) {
  Random random(4);
  for (const HalfPrecision half : both_halves) {
    check_fast_matmul(random, {9, 13, 5003, false, false, 0, 0}, 64, half);
    check_fast_matmul(random, {9, 13, 2100, true, false, 1, 4}, 64, half);
  }
}

TEST(CudaFastMatmul, NoBitDependsOnTheTile) {
  Random random(5);
  const size_t m = 70, n = 90, k = 100;
  const Values a = random.values(m * k), b = random.values(k * n);
  for (const HalfPrecision half : both_halves) {
    Values results[2] = {poisoned(m * n), poisoned(m * n)};
    for (size_t i = 0; i < 2; ++i) {
      simt::SimtLauncher device;
      launch_fast_matmul({.m = m,
                          .n = n,
                          .k = k,
                          .a = a.data(),
                          .a_row = k,
                          .b = b.data(),
                          .b_row = n,
                          .c = results[i].data(),
                          .ldc = n},
                         fast_tiles[i], half, device);
    }
    expect_same_bits(results[1], results[0], name_of(half));
  }
}

// Infinity in bf16 is what fp32 has; fp16 makes it of 65,520 and more. Neither is lost in a sum.
TEST(CudaFastMatmul, WhatIsTooLargeIsInfinite) {
  const Values a = {65520, 1}, b = {1, 1};
  const auto product = [&](HalfPrecision half) {
    Values c = poisoned(1);
    simt::SimtLauncher device;
    launch_fast_matmul(
        {.m = 1, .n = 1, .k = 2, .a = a.data(), .a_row = 2, .b = b.data(), .b_row = 1, .c = c.data(), .ldc = 1}, 64,
        half, device);
    return c[0];
  };
  EXPECT_EQ(product(HalfPrecision::bf16), 65537);  // 65,520 is 65,536 in bf16
  EXPECT_EQ(product(HalfPrecision::fp16), INFINITY);
}

TEST(CudaFastMatmul, RefusesStridesThatNoKernelHas) {
  float x[4] = {};
  simt::SimtLauncher device;
  Matmul op{.m = 1, .n = 1, .k = 1, .a = x, .a_row = 2, .a_col = 2, .b = x, .b_row = 2, .c = x, .ldc = 1};
  EXPECT_THROW(launch_fast_matmul(op, 64, HalfPrecision::bf16, device), std::invalid_argument);
}

}  // namespace
}  // namespace kernels::cuda
