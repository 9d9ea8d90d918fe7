// Products of tiles by warps that multiply matrices, of int8_matmul.cu and fast_matmul.cu.
#pragma once

#include "cuda/halves.cuh"
#include "cuda/mma.cuh"
#include "cuda/units.cuh"

namespace kernels::cuda {

// Each adds the products of 16 rows of 16 units and of 8 columns. A unit is 32 bits: four digits, or two halves. Of
// units 8h to 8h + 7 of the rows a lane has rows[h], registers of mma.cuh's a, and of units 4i to 4i + 3 of the columns
// column[i], a register of b.
struct M8n8k16 {
  using Sum = int32_t;
  static constexpr uint32_t unit_terms = 4;

  __device__ static void multiply(int32_t& upper0, int32_t& upper1, int32_t& lower0, int32_t& lower1,
                                  const uint32_t (&rows)[2][4], const uint32_t (&column)[4]) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      mma_m8n8k16(upper0, upper1, rows[i / 2][i % 2 * 2], column[i]);
      mma_m8n8k16(lower0, lower1, rows[i / 2][i % 2 * 2 + 1], column[i]);
    }
  }
};

struct M16n8k32 {
  using Sum = int32_t;
  static constexpr uint32_t unit_terms = 4;

  __device__ static void multiply(int32_t& upper0, int32_t& upper1, int32_t& lower0, int32_t& lower1,
                                  const uint32_t (&rows)[2][4], const uint32_t (&column)[4]) {
#pragma unroll
    for (uint32_t h = 0; h < 2; ++h) {
      mma_m16n8k32(upper0, upper1, lower0, lower1, rows[h][0], rows[h][1], rows[h][2], rows[h][3], column[2 * h],
                   column[2 * h + 1]);
    }
  }
};

// Half: of halves.cuh.
template <class Half>
struct HalvesMma {
  using Sum = float;
  static constexpr uint32_t unit_terms = 2;

  __device__ static void multiply(float& upper0, float& upper1, float& lower0, float& lower1,
                                  const uint32_t (&rows)[2][4], const uint32_t (&column)[4]) {
#pragma unroll
    for (uint32_t h = 0; h < 2; ++h) {
      Half::multiply(upper0, upper1, lower0, lower1, rows[h][0], rows[h][1], rows[h][2], rows[h][3], column[2 * h],
                     column[2 * h + 1]);
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
class TensorCores {
 public:
  using Sum = typename Mma::Sum;
  static constexpr uint32_t tile = tile_, threads = line_threads * tile, depth = 16 * Mma::unit_terms;
  static constexpr uint32_t thread_m = tile / 16, thread_n = 8;
  static constexpr uint32_t terms_of_sum = 0;  // any number
  static constexpr uint32_t groups = tile * 4 / threads;

  struct Slice {
    alignas(16) uint32_t x[tile * 16];
  };

  template <bool along_terms>
  __device__ static Place place(uint32_t group) {
    const uint32_t number = threadIdx.x + group * threads;
    if (along_terms) return {line_of(number / 4), number % 4 * 4};
    const uint32_t line = number % 8 + number / 32 % (tile / 32) * 8;
    return {4 * line, number % 32 / 8 + number / tile * 4};
  }

  // Of a unit in a slice.
  __device__ static uint32_t number_at(const Place& at) {
    return 4 * group_at(row_of(at.line), at.unit / 4) + at.unit % 4;
  }

  // From a unit's number on: four units of its line, or that of each of four lines.
  template <bool along_terms>
  __device__ static void put(Slice& slice, uint32_t first, const Units& units) {
    uint32_t* const to = slice.x + first;
    if (along_terms) {
      *reinterpret_cast<Units*>(to) = units;
    } else {
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) to[i * quarter * 16] = units.x[i];
    }
  }

  __device__ explicit TensorCores(const Slices<TensorCores>& slices)
      : columns_(shared_address(slices.b[0].x + 4 * group_at(8 * warp_column() + lane() % 8, lane() / 8))) {
#pragma unroll
    for (uint32_t h = 0; h < 2; ++h)
      rows_[h] = shared_address(slices.a[0].x + 4 * group_at(first_row() + lane() % 16, 2 * h + lane() / 16));
  }

  // The thread's sums go on through slices.a[which] and slices.b[which].
  __device__ void multiply(Sum (&sums)[thread_m][thread_n], uint32_t which) const {
    constexpr uint32_t row_bytes = 4 * sizeof(Units);
    const uint32_t slice = kept(which * sizeof(Slice));
    uint32_t columns[4][4];
#pragma unroll
    for (uint32_t q = 0; q < 4; ++q) load_matrices(columns[q], columns_ + slice + q * quarter * row_bytes);
#pragma unroll
    for (uint32_t i = 0; i < thread_m; i += 2) {
      uint32_t rows[2][4];
#pragma unroll
      for (uint32_t h = 0; h < 2; ++h) load_matrices(rows[h], rows_[h] + slice + 8 * i * row_bytes);
#pragma unroll
      for (uint32_t q = 0; q < 4; ++q)
        Mma::multiply(sums[i][q], sums[i][q + 4], sums[i + 1][q], sums[i + 1][q + 4], rows, columns[q]);
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

  SharedAddress rows_[2], columns_;  // where the lane's first rows of matrices are
};

}  // namespace kernels::cuda
