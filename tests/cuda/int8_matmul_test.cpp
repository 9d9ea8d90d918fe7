// int8_matmul.cu gives the reference's bits with every arithmetic, and a device gets the one that serves it.
#include <gtest/gtest.h>

#include <array>
#include <span>
#include <string>
#include <vector>

#include "cuda_host/matmul_launch.h"
#include "cuda_test_util.h"

namespace kernels::cuda {
namespace {

using test::both_orders;
using test::expect_same_bits;
using test::poisoned;
using test::Random;
using test::Values;
using Digits = std::vector<int8_t>;

struct Int8Kernel {
  Int8Arithmetic arithmetic;
  uint32_t tile;
};
constexpr Int8Kernel int8_kernels[] = {{Int8Arithmetic::fp32, 64},     {Int8Arithmetic::dp4a, 64},
                                       {Int8Arithmetic::m8n8k16, 64},  {Int8Arithmetic::m8n8k16, 128},
                                       {Int8Arithmetic::m16n8k32, 64}, {Int8Arithmetic::m16n8k32, 128}};

struct Int8MatmulCase {
  size_t m, n, k;
  bool a_transposed, b_transposed, two_digits;
  size_t padding;    // of lines, so that they are aligned or not
  size_t block = 0;  // of tokens
};

Digits digits(Random& random, size_t count) {
  Digits x(count);
  for (int8_t& v : x) v = static_cast<int8_t>(static_cast<int>(random.between(0, 254)) - 127);
  return x;
}

void check_int8_matmul(Random& random, const Int8MatmulCase& shape,
                       std::span<const Int8Kernel> kernels = int8_kernels) {
  const size_t m = shape.m, n = shape.n, k = shape.k, epilogue = shape.block > 0 ? 1 : random.between(0, 4);
  const bool a_transposed = shape.a_transposed, b_transposed = shape.b_transposed;
  const size_t lda = (a_transposed ? m : k) + shape.padding, ldb = (b_transposed ? k : n) + shape.padding;
  const size_t ldc = n + shape.padding;
  const Digits a = digits(random, lda * (a_transposed ? k : m)), low = digits(random, a.size());
  const Digits b = digits(random, ldb * (b_transposed ? n : k));
  const Values bias = random.values(n), residual = random.values(m * ldc);
  const Values a_scales = random.values(m),
               b_scales = random.values(shape.block > 0 ? (k + shape.block - 1) / shape.block * n : n);
  const Values c0 = epilogue == 1 || epilogue == 4 ? random.values(m * ldc) : poisoned(m * ldc);
  const auto op_with = [&](Values& c) {
    Int8Matmul op{.m = m, .n = n, .k = k, .a = a.data(), .b = b.data(), .c = c.data(), .ldc = ldc};
    op.a_row = a_transposed ? 1 : lda, op.a_col = a_transposed ? lda : 1;
    op.b_row = b_transposed ? 1 : ldb, op.b_col = b_transposed ? ldb : 1;
    if (shape.two_digits) op.a_low = low.data();
    if (epilogue != 1) op.a_scales = a_scales.data();
    if (epilogue != 2) op.b_scales = b_scales.data();
    if (epilogue == 2 || epilogue == 3) op.bias = bias.data();
    if (epilogue == 3) op.residual = residual.data();
    if (epilogue == 4) op.residual = c.data();
    if (epilogue == 1) op.accumulate = true;
    op.block = shape.block, op.block_scales = n;
    return op;
  };
  Values expected = c0;
  make_reference_ops()->int8_matmul(op_with(expected));
  for (const auto& [arithmetic, tile] : kernels) {
    for (const simt::Order order : both_orders) {
      Values c = c0;
      simt::SimtLauncher device(order);
      launch_int8_matmul(op_with(c), tile, arithmetic, device);
      expect_same_bits(c, expected,
                       std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k) + ", " +
                           name_of(arithmetic) + ", tile " + std::to_string(tile) +
                           (a_transposed ? ", a transposed" : "") + (b_transposed ? ", b transposed" : "") +
                           ", epilogue " + std::to_string(epilogue));
    }
  }
}

TEST(CudaInt8Matmul, RandomShapes) {
  Random random(1);
  for (size_t i = 0; i < 24; ++i) {
    check_int8_matmul(random, {random.between(1, 100), random.between(1, 90), random.between(1, 90), (i & 1) != 0,
                               (i & 2) != 0, (i & 4) != 0, random.between(0, 3)});
  }
}

TEST(CudaInt8Matmul, BlocksOfTokens) {
  Random random(8);
  for (size_t i = 0; i < 12; ++i) {
    check_int8_matmul(random, {random.between(1, 140), random.between(1, 140), random.between(1, 200), true, false,
                               i % 4 == 3, random.between(0, 4), random.between(1, 90)});
  }
  check_int8_matmul(random, {64, 132, 96, true, false, false, 0, 32});
  check_int8_matmul(random, {9, 12, 2100, true, false, false, 4, 1050});  // more than fp32 holds the sums of
  for (const bool a_transposed : {false, true})
    check_int8_matmul(random, {33, 20, 100, a_transposed, a_transposed, false, 0, 40});
}

TEST(CudaInt8Matmul, AlignedShapes) {
  Random random(2);
  for (size_t i = 0; i < 4; ++i) {
    for (const size_t padding : {0, 4, 16}) {
      check_int8_matmul(random, {64, 80, 64, (i & 1) != 0, (i & 2) != 0, padding == 4, padding});
    }
  }
}

// Rows that begin at whole groups, whose last ones are parts: a line or a term short of a tile or a slice, one more,
// and four more lines.
TEST(CudaInt8Matmul, AlignedEdges) {
  Random random(6);
  for (const auto& [size, terms, padding] : {std::array<size_t, 3>{63, 63, 1}, {65, 65, 15}, {68, 68, 12}}) {
    for (size_t i = 0; i < 4; ++i)
      check_int8_matmul(random, {size, size, terms, (i & 1) != 0, (i & 2) != 0, false, padding});
    check_int8_matmul(random, {size, size, 3 * terms, true, false, false, padding, terms});
  }
  for (size_t i = 0; i < 4; ++i) check_int8_matmul(random, {129, 129, 65, (i & 1) != 0, (i & 2) != 0, false, 15});
  check_int8_matmul(random, {129, 129, 161, true, false, false, 15, 96});
}

TEST(CudaInt8Matmul, MoreTilesThanOne) {
  Random random(5);
  for (size_t i = 0; i < 4; ++i) {
    check_int8_matmul(random, {140, 132, 70, (i & 1) != 0, (i & 2) != 0, i == 2, i % 2 * 4});
  }
}

TEST(CudaInt8Matmul, AnyNumberOfTerms) {
  Random random(3);
  for (const size_t k : {0, 31, 32, 33, 63, 64, 65, 127, 128, 129}) {
    check_int8_matmul(random, {random.between(1, 9), random.between(1, 9), k, k % 2 == 0, k % 3 == 0, true, 1});
  }
}

// Whose sums are kept apart from 1024 terms to the next.
TEST(CudaInt8Matmul, LongSumsOfFp32) {
  const Int8Kernel fp32[] = {{Int8Arithmetic::fp32, 64}};
  Random random(4);
  for (const size_t k : {1023, 1024, 1025, 2081}) {
    check_int8_matmul(random, {random.between(1, 9), random.between(1, 9), k, k % 2 == 0, k % 3 == 0, true, 1}, fp32);
  }
}

// Those of tensor cores are in tests/kernels/int8_ops_test.cpp.
TEST(CudaInt8Matmul, LargeSumsAreExact) {
  const size_t k = 20'001;
  const Digits a(k, 127), b(k, -127);
  for (const Int8Arithmetic arithmetic : {Int8Arithmetic::fp32, Int8Arithmetic::dp4a}) {
    Values c = poisoned(1);
    Int8Matmul op{.m = 1, .n = 1, .k = k, .a = a.data(), .b = b.data(), .c = c.data(), .ldc = 1};
    op.a_row = k, op.b_row = 1, op.b_col = k;
    simt::SimtLauncher device;
    launch_int8_matmul(op, 64, arithmetic, device);
    EXPECT_EQ(c[0], static_cast<float>(-127 * 127 * static_cast<int64_t>(k))) << name_of(arithmetic);
  }
}

}  // namespace
}  // namespace kernels::cuda
