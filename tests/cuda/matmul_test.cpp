// matmul.cu gives the reference's bits, whatever tile is chosen, and however many tiles' chunks fit into memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>
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

constexpr uint32_t tiles[] = {128, 64, 32};

struct MatmulCase {
  size_t m, n, k;
  bool a_transposed, b_transposed;
  size_t padding;    // of lines, so that they are aligned or not
  size_t block = 0;  // of tokens
};

// Memory for the sums of so many tiles' chunks.
Values chunk_sums_of(size_t tiles_at_once, size_t k, uint32_t tile, size_t chunk = 2048) {
  const size_t chunks = (k + chunk - 1) / chunk;
  return poisoned(tiles_at_once * chunks * tile * tile);
}

size_t tiles_of(const Matmul& op, uint32_t tile) { return (op.m + tile - 1) / tile * ((op.n + tile - 1) / tile); }

void check_matmul(Random& random, const MatmulCase& shape, uint32_t tile) {
  const size_t m = shape.m, n = shape.n, k = shape.k;
  const bool a_transposed = shape.a_transposed, b_transposed = shape.b_transposed;
  const size_t lda = (a_transposed ? m : k) + shape.padding, ldb = (b_transposed ? k : n) + shape.padding;
  const size_t ldc = n + shape.padding, epilogue = shape.block > 0 ? 4 : random.between(0, 4);
  const Values a = random.values(lda * (a_transposed ? k : m)), b = random.values(ldb * (b_transposed ? n : k));
  const Values bias = random.values(n), residual = random.values(m * ldc);
  const Values c0 = epilogue >= 3 ? random.values(m * ldc) : poisoned(m * ldc);
  const auto op_with = [&](Values& c) {
    Matmul op{.m = m, .n = n, .k = k, .a = a.data(), .b = b.data(), .c = c.data(), .ldc = ldc};
    op.a_row = a_transposed ? 1 : lda, op.a_col = a_transposed ? lda : 1;
    op.b_row = b_transposed ? 1 : ldb, op.b_col = b_transposed ? ldb : 1;
    if (epilogue == 1 || epilogue == 2) op.bias = bias.data();
    if (epilogue == 2) op.residual = residual.data();
    if (epilogue == 3) op.residual = c.data();
    if (epilogue == 4) op.accumulate = true;
    op.block = shape.block;
    return op;
  };
  Values expected = c0;
  make_reference_ops()->matmul(op_with(expected));
  for (const simt::Order order : both_orders) {
    Values c = c0;
    const Matmul op = op_with(c);
    const size_t tiles_at_once = order == simt::Order::upward ? tiles_of(op, tile) : 1 + random.between(0, 1);
    Values chunk_sums = chunk_sums_of(tiles_at_once, k, tile, shape.block > 0 ? std::min(shape.block, k) : 2048);
    simt::SimtLauncher device(order);
    launch_matmul(op, tile, chunk_sums, device);
    expect_same_bits(c, expected,
                     std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k) + ", tile " +
                         std::to_string(tile) + (a_transposed ? ", a transposed" : "") +
                         (b_transposed ? ", b transposed" : "") + ", epilogue " + std::to_string(epilogue) + ", " +
                         std::to_string(tiles_at_once) + " tiles at once");
  }
}

void check_layouts(Random& random, uint32_t tile, size_t m, size_t n, size_t k) {
  for (const bool a_transposed : {false, true}) {
    for (const bool b_transposed : {false, true}) {
      check_matmul(random, {m, n, k, a_transposed, b_transposed, random.between(0, 4)}, tile);
    }
  }
}

TEST(CudaMatmul, RandomShapes) {
  Random random(1);
  for (const uint32_t tile : tiles) {
    for (int i = 0; i < 6; ++i) {
      check_layouts(random, tile, random.between(1, tile + 40), random.between(1, tile + 70), random.between(1, 50));
    }
  }
}

TEST(CudaMatmul, AlignedShapes) {
  Random random(2);
  for (const uint32_t tile : tiles) {
    for (const size_t padding : {0, 4}) {
      for (const bool a_transposed : {false, true}) {
        for (const bool b_transposed : {false, true}) {
          check_matmul(random, {tile + 8, 2 * tile, 20, a_transposed, b_transposed, padding}, tile);
          check_matmul(random, {tile, tile - 4, 64, a_transposed, b_transposed, padding}, tile);
          // A tile of which everything is inside, beside one at the edge: one slice, two, three.
          for (const size_t k : {8, 16, 24}) {
            check_matmul(random, {tile, tile + 4, k, a_transposed, b_transposed, padding}, tile);
          }
        }
      }
    }
  }
}

TEST(CudaMatmul, ChunkBoundaries) {
  Random random(3);
  for (const uint32_t tile : tiles) {
    for (const size_t k : {0, 1, 7, 8, 9, 2047, 2048, 2049, 4100}) {
      const bool a_transposed = random.between(0, 1), b_transposed = random.between(0, 1);
      check_matmul(random, {random.between(1, 14), random.between(1, 35), k, a_transposed, b_transposed, 1}, tile);
    }
    check_layouts(random, tile, 9, 13, 2056);
  }
}

TEST(CudaMatmul, ManyChunksOfManyTiles) {
  Random random(5);
  for (const uint32_t tile : tiles) check_layouts(random, tile, tile - 3, tile + 5, 2049);
  check_layouts(random, 32, 40, 70, 3 * 2048 + 5);
  check_matmul(random, {3, 65, 24 * 2048 + 1105, false, false, 3}, 32);
}

TEST(CudaMatmul, BlocksOfTokens) {
  Random random(6);
  for (const uint32_t tile : tiles) {
    for (const size_t block : {1, 7, 16, 30, 44, 50, 51}) {
      check_matmul(random, {random.between(1, tile + 9), random.between(1, tile + 9), 50, true, false, 3, block}, tile);
      check_matmul(random, {tile, tile + 4, 50, true, false, 4, block}, tile);
      check_matmul(random, {5, 6, 50, random.between(0, 1) != 0, random.between(0, 1) != 0, 1, block}, tile);
    }
    check_matmul(random, {5, 6, 4100, true, false, 0, 2048}, tile);
    check_matmul(random, {5, 6, 4100, true, false, 0, 2049}, tile);  // longer than a chunk: two chunks each
  }
}

// With the launches that it was given.
class NotingLauncher final : public simt::SimtLauncher {
 public:
  using SimtLauncher::SimtLauncher;
  void launch(const Launch& launch) override {
    launches.push_back(std::string(launch.kernel) + " " + std::to_string(launch.grid[0]) + " x " +
                       std::to_string(launch.grid[1]));
    SimtLauncher::launch(launch);
  }
  std::vector<std::string> launches;
};

std::vector<std::string> launches_of(size_t k, size_t tiles_at_once, uint32_t multiprocessors = 16) {
  constexpr size_t m = 33, n = 65;  // 2 x 3 tiles
  const Values a(m * k, 1), b(k * n, 1);
  Values c = poisoned(m * n), chunk_sums = chunk_sums_of(tiles_at_once, k, 32);
  NotingLauncher device(simt::Order::upward, multiprocessors);
  launch_matmul({.m = m, .n = n, .k = k, .a = a.data(), .a_row = k, .b = b.data(), .b_row = n, .c = c.data(), .ldc = n},
                32, chunk_sums, device);
  EXPECT_EQ(std::ranges::count(c, static_cast<float>(k)), m * n);
  return device.launches;
}

TEST(CudaMatmul, ChunksAreSideBySideForAsManyTilesAsFit) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(launches_of(2048, 0), Names({"matmul_32_tl 6 x 1"}));
  EXPECT_EQ(launches_of(2049, 6), Names({"matmul_32_tl 6 x 2", "matmul_add_chunks 6 x 1"}));
  EXPECT_EQ(launches_of(4097, 4),
            Names({"matmul_32_tl 4 x 3", "matmul_add_chunks 4 x 1", "matmul_32_tl 2 x 3", "matmul_add_chunks 2 x 1"}));
  EXPECT_THROW(launches_of(2049, 0), std::length_error);
}

// A multiprocessor has ten blocks of such tiles at once.
TEST(CudaMatmul, LaunchesOfChunksAreWholeWavesOfBlocks) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(launches_of(4097, 6, 1),
            Names({"matmul_32_tl 3 x 3", "matmul_add_chunks 3 x 1", "matmul_32_tl 3 x 3", "matmul_add_chunks 3 x 1"}));
  EXPECT_EQ(launches_of(4097, 3, 1).front(), "matmul_32_tl 3 x 3");  // 9 blocks fit, which is no wave
}

// Chains that meet sums beside a midpoint of two fp32 values, and denormal ones: each term rounds once.
TEST(CudaMatmul, RoundsOnce) {
  Random random(4);
  for (const float root : {1.0f, 0x1p-55f, 0x1p-63f}) {
    const size_t n = 19, k = 2;
    Values a(n * k), b(k * n);
    for (size_t i = 0; i < n; ++i) {
      const float tiny = 0x1p-23f * static_cast<float>(1 + i);
      a[i * k] = root * root * (1 + 0x1p-23f * static_cast<float>(random.between(0, 0x7fffff)));
      a[i * k + 1] = 0x1p-12f * (1 + tiny) * root;
      b[i] = i % 2 ? 1 : -1;
      b[n + i] = 0x1p-12f * (1 - tiny) * root;
    }
    Values expected(n * n), c = poisoned(n * n);
    Matmul op{.m = n, .n = n, .k = k, .a = a.data(), .a_row = k, .b = b.data(), .b_row = n, .c = c.data(), .ldc = n};
    simt::SimtLauncher device;
    launch_matmul(op, 32, {}, device);
    op.c = expected.data();
    make_reference_ops()->matmul(op);
    expect_same_bits(c, expected, "beside midpoints");
  }
}

// Also where the last product rounds to -0, and no padding comes after it.
TEST(CudaMatmul, IsNeverMinusZero) {
  const Values b(8, 0x1p-100f);
  for (const float last : {-0.0f, -0x1p-100f}) {
    for (const uint32_t tile : tiles) {
      const Values a = {0, 0, 0, 0, 0, 0, 0, last};
      Values c = poisoned(1);
      simt::SimtLauncher device;
      launch_matmul(
          {.m = 1, .n = 1, .k = 8, .a = a.data(), .a_row = 8, .b = b.data(), .b_row = 1, .c = c.data(), .ldc = 1}, tile,
          {}, device);
      expect_same_bits(c, {0.0f}, "tile " + std::to_string(tile));
    }
  }
}

// By hand: the blocks of the multiprocessor that has most, by what each is.
TEST(CudaMatmul, ChoosesTheLeastWorkForTheBusiestMultiprocessor) {
  EXPECT_EQ(matmul_tile(1024, 50257, 768, 0, 132), 128u);    // 24 of 128; 96 of 64
  EXPECT_EQ(matmul_tile(1024, 768, 768, 0, 10), 128u);       // 5 of 128; 20 of 64
  EXPECT_EQ(matmul_tile(1024, 768, 768, 0, 132), 64u);       // 1 of 128; 2 of 64; 6 of 32
  EXPECT_EQ(matmul_tile(1024, 768, 50257, 0, 132), 128u);    // 9 of 128; 36 of 64: 24.5 chunks of each tile
  EXPECT_EQ(matmul_tile(1024, 768, 3072, 0, 82), 128u);      // 1 of 128; 4 of 64: 1.5 chunks of each tile
  EXPECT_EQ(matmul_tile(1024, 768, 3072, 0, 71), 64u);       // 2 of 128; 5 of 64
  EXPECT_EQ(matmul_tile(128, 128, 128, 0, 28), 32u);         // 1 of each
  EXPECT_EQ(matmul_tile(128, 128, 128, 0, 1), 128u);         // 1 of 128; 4 of 64; 16 of 32
  EXPECT_EQ(matmul_tile(768, 768, 1024, 0, 132), 32u);       // 1 of 128; 2 of 64; 5 of 32
  EXPECT_EQ(matmul_tile(768, 768, 16384, 1024, 132), 128u);  // 5 of 128; 18 of 64: 16 blocks of each tile
}

TEST(CudaMatmul, ChoosesATileWhoseChunksFit) {
  EXPECT_EQ(matmul_tile(128, 128, size_t{1} << 20, 0, 1), 128u);
  EXPECT_EQ(matmul_tile(128, 128, size_t{1} << 21, 0, 1), 64u);
}

TEST(CudaMatmul, RefusesWhatNoKernelDoes) {
  float x[4] = {};
  simt::SimtLauncher device;
  Matmul op{.m = 1, .n = 1, .k = 1, .a = x, .a_row = 2, .b = x, .b_row = 2, .c = x, .ldc = 1};
  EXPECT_THROW(launch_matmul(op, 48, {}, device), std::invalid_argument);
  op.a_col = 2;
  EXPECT_THROW(launch_matmul(op, 32, {}, device), std::invalid_argument);
  op.a_col = 1, op.b_col = 3;
  EXPECT_THROW(launch_matmul(op, 32, {}, device), std::invalid_argument);
}

}  // namespace
}  // namespace kernels::cuda
