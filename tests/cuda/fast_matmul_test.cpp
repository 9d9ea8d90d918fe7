// fast_matmul.cu against sums in binary64 of the same halves.
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "cuda_host/matmul_launch.h"
#include "fast_test_util.h"

namespace kernels::cuda {
namespace {

using test::all_epilogues;
using test::both_halves;
using test::both_orders;
using test::Epilogue;
using test::expect_same_bits;
using test::FastProduct;
using test::Halves;
using test::poisoned;
using test::ProductCase;
using test::Random;
using test::Values;

constexpr uint32_t fast_tiles[] = {128, 64};

const auto in_place = [](auto& array) { return array.data(); };

void check_fast_matmul(Random& random, const ProductCase& shape, uint32_t tile, HalfPrecision half) {
  const std::string what = shape.text() + ", tile " + std::to_string(tile) + ", " + name_of(half);
  FastProduct upward(random, shape, half), downward = upward;
  for (const simt::Order order : both_orders) {
    FastProduct& product = order == simt::Order::upward ? upward : downward;
    simt::SimtLauncher device(order);
    launch_fast_matmul(product.operation(in_place), tile, half, device);
  }
  expect_same_bits(downward.c, upward.c, what);
  EXPECT_EQ(downward.c_halves, upward.c_halves) << what;
  EXPECT_EQ(downward.before_gelu, upward.before_gelu) << what;
  test::expect_right(upward, what);
}

void check_all(Random& random, size_t m, size_t n, size_t k, size_t padding) {
  for (const uint32_t tile : fast_tiles) {
    for (const HalfPrecision half : both_halves) {
      for (const bool a_transposed : {false, true}) {
        for (const bool b_transposed : {false, true}) {
          const Epilogue epilogue = all_epilogues[random.between(0, std::size(all_epilogues) - 1)];
          check_fast_matmul(random, {m, n, k, a_transposed, b_transposed, epilogue, padding}, tile, half);
        }
      }
    }
  }
}

TEST(CudaFastMatmul, RandomShapes) {
  Random random(1);
  for (int i = 0; i < 4; ++i)
    check_all(random, random.between(1, 150), random.between(1, 150), random.between(1, 100), random.between(0, 8));
}

TEST(CudaFastMatmul, AlignedShapes) {
  Random random(2);
  check_all(random, 136, 128, 64, 0);
  check_all(random, 64, 60, 32, 4);
  check_all(random, 40, 72, 40, 8);
}

// Rows that begin at whole groups, whose last ones are parts: a line or a term short of a tile or a slice, one more,
// and four more lines.
TEST(CudaFastMatmul, AlignedEdges) {
  Random random(7);
  check_all(random, 63, 63, 31, 1);
  check_all(random, 65, 65, 33, 7);
  check_all(random, 68, 68, 36, 4);
  check_all(random, 129, 129, 33, 7);
}

TEST(CudaFastMatmul, Epilogues) {
  Random random(6);
  for (const Epilogue epilogue : all_epilogues) {
    for (const size_t padding : {0, 1, 4}) {
      for (const HalfPrecision half : both_halves)
        check_fast_matmul(random, {20, 44, 24, false, false, epilogue, padding}, 64, half);
    }
  }
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
    check_fast_matmul(random, {9, 13, 5003, false, false, Epilogue::none}, 64, half);
    check_fast_matmul(random, {9, 13, 2100, true, false, Epilogue::accumulate, 1}, 64, half);
  }
}

TEST(CudaFastMatmul, NoBitDependsOnTheTile) {
  Random random(5);
  for (const HalfPrecision half : both_halves) {
    const FastProduct product(random, {70, 90, 100, false, false, Epilogue::none}, half);
    FastProduct results[2] = {product, product};
    for (size_t i = 0; i < 2; ++i) {
      simt::SimtLauncher device;
      launch_fast_matmul(results[i].operation(in_place), fast_tiles[i], half, device);
    }
    expect_same_bits(results[1].c, results[0].c, name_of(half));
  }
}

// 65,520 is 65,536 in bf16 and infinite in fp16. Neither is lost in a sum.
TEST(CudaFastMatmul, WhatIsTooLargeIsInfinite) {
  const auto product = [&](HalfPrecision half) {
    const Halves a = test::halves_of({65520, 1}, half), b = test::halves_of({1, 1}, half);
    Values c = poisoned(1);
    simt::SimtLauncher device;
    launch_fast_matmul(
        {.m = 1, .n = 1, .k = 2, .a = a.data(), .a_row = 2, .b = b.data(), .b_row = 1, .c = c.data(), .ldc = 1}, 64,
        half, device);
    return c[0];
  };
  EXPECT_EQ(product(HalfPrecision::bf16), 65537);
  EXPECT_EQ(product(HalfPrecision::fp16), INFINITY);
}

TEST(CudaFastMatmul, RefusesStridesThatNoKernelHas) {
  uint16_t x[4] = {};
  float c = 0;
  simt::SimtLauncher device;
  FastMatmul op{.m = 1, .n = 1, .k = 1, .a = x, .a_row = 2, .a_col = 2, .b = x, .b_row = 2, .c = &c, .ldc = 1};
  EXPECT_THROW(launch_fast_matmul(op, 64, HalfPrecision::bf16, device), std::invalid_argument);
}

}  // namespace
}  // namespace kernels::cuda
