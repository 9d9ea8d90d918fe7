// Products of tiles by warps that multiply matrices, of int8_matmul.cu and fast_matmul.cu.
#pragma once

#include "cuda/digits.cuh"
#include "cuda/halves.cuh"
#include "cuda/mma.cuh"

namespace kernels::cuda {

// Each adds the products of 16 rows of 16 units, of which a lane has 4 of row g (`upper`) and of row g + 8 (`lower`),
// and of 8 columns. A unit is 32 bits: four digits, or two halves. Which terms the lane's units are does not matter
// where a and b agree: each sum has all of them.
struct M8n8k16 {
  using Sum = int32_t;
  static constexpr uint32_t unit_terms = 4;

  __device__ static void multiply(int32_t& upper0, int32_t& upper1, int32_t& lower0, int32_t& lower1,
                                  const Units& upper, const Units& lower, const Units& column) {
#pragma unroll
    for (uint32_t u = 0; u < 4; ++u) {
      mma_m8n8k16(upper0, upper1, upper.x[u], column.x[u]);
      mma_m8n8k16(lower0, lower1, lower.x[u], column.x[u]);
    }
  }
};

struct M16n8k32 {
  using Sum = int32_t;
  static constexpr uint32_t unit_terms = 4;

  __device__ static void multiply(int32_t& upper0, int32_t& upper1, int32_t& lower0, int32_t& lower1,
                                  const Units& upper, const Units& lower, const Units& column) {
#pragma unroll
    for (uint32_t u = 0; u < 4; u += 2) {
      mma_m16n8k32(upper0, upper1, lower0, lower1, upper.x[u], lower.x[u], upper.x[u + 1], lower.x[u + 1], column.x[u],
                   column.x[u + 1]);
    }
  }
};

// Half: of halves.cuh.
template <class Half>
struct HalvesMma {
  using Sum = float;
  static constexpr uint32_t unit_terms = 2;

  __device__ static void multiply(float& upper0, float& upper1, float& lower0, float& lower1, const Units& upper,
                                  const Units& lower, const Units& column) {
#pragma unroll
    for (uint32_t u = 0; u < 4; u += 2) {
      Half::multiply(upper0, upper1, lower0, lower1, upper.x[u], lower.x[u], upper.x[u + 1], lower.x[u + 1],
                     column.x[u], column.x[u + 1]);
    }
  }
};

// Two rows of warps; a warp has half of a tile's rows and 32 of its columns.
//
// A slice has four groups of four units for each line. Row r of it is line_of(r), so that four neighbouring lines are
// far apart: those are what a thread stores where lines are the neighbours in memory, and, from four products, four
// neighbouring sums of c. The groups of a row are exchanged by the row's number. Thus the lanes of a warp meet no bank
// twice, whether they store (128 bits each, or 32) or load.
template <uint32_t tile_, class Mma>
struct TensorCores {
  using Sum = typename Mma::Sum;
  static constexpr uint32_t tile = tile_, threads = line_threads * tile, depth = 16 * Mma::unit_terms;
  static constexpr uint32_t thread_m = tile / 16, thread_n = 8;
  static constexpr uint32_t terms_of_sum = 0;  // any number
  static constexpr uint32_t groups = tile * 4 / threads;

  struct Slice {
    alignas(16) Units x[tile * 4];
  };

  template <bool along_terms>
  __device__ static Place place(uint32_t group) {
    const uint32_t number = threadIdx.x + group * threads;
    if (along_terms) return {line_of(number / 4), number % 4 * 4};
    const uint32_t line = number % 8 + number / 32 % (tile / 32) * 8;
    return {4 * line, number % 32 / 8 + number / tile * 4};
  }

  template <bool along_terms>
  __device__ static void put(Slice& slice, const Place& at, const Units& units) {
    if (along_terms) {
      slice.x[group_at(row_of(at.line), at.unit / 4)] = units;
    } else {
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) slice.x[group_at(row_of(at.line + i), at.unit / 4)].x[at.unit % 4] = units.x[i];
    }
  }

  __device__ static void multiply(Sum (&sums)[thread_m][thread_n], const Slice& a, const Slice& b) {
    const uint32_t g = lane() / 4, t = lane() % 4;
    Units columns[4];
#pragma unroll
    for (uint32_t q = 0; q < 4; ++q) columns[q] = b.x[group_at(q * quarter + 8 * warp_column() + g, t)];
#pragma unroll
    for (uint32_t i = 0; i < thread_m; i += 2) {
      const Units upper = a.x[group_at(first_row() + 8 * i + g, t)];
      const Units lower = a.x[group_at(first_row() + 8 * i + 8 + g, t)];
#pragma unroll
      for (uint32_t q = 0; q < 4; ++q)
        Mma::multiply(sums[i][q], sums[i][q + 4], sums[i + 1][q], sums[i + 1][q + 4], upper, lower, columns[q]);
    }
  }

  // Of the thread's sums in the tile.
  __device__ static uint32_t row(uint32_t i) { return line_of(first_row() + 8 * i + lane() / 4); }
  __device__ static uint32_t column(uint32_t j) { return 32 * warp_column() + lane() % 4 * 8 + j; }

 private:
  static constexpr uint32_t quarter = tile / 4;

  __device__ static uint32_t line_of(uint32_t row) { return row % quarter * 4 + row / quarter; }
  __device__ static uint32_t row_of(uint32_t line) { return line % 4 * quarter + line / 4; }
  __device__ static uint32_t group_at(uint32_t row, uint32_t group) { return row * 4 + (group ^ row / 2 % 4); }
  __device__ static uint32_t lane() { return threadIdx.x % warp_lanes; }
  __device__ static uint32_t warp_column() { return threadIdx.x / warp_lanes % (tile / 32); }
  __device__ static uint32_t first_row() { return threadIdx.x / warp_lanes / (tile / 32) * (tile / 2); }
};

}  // namespace kernels::cuda
