// The exact fp32 product (docs/numerics.md section 3): a block computes a tile of c, a thread owns some of its
// elements, so that each adds its terms upward. The next slices are on their way while one is multiplied.
#include "cuda/matmul_args.h"
#include "cuda/tile.cuh"

namespace kernels::cuda {
namespace {

constexpr uint32_t depth = 8;  // terms of a slice

template <uint32_t tile>
struct Slices {
  alignas(16) float a[2][depth * slice_row(tile)];
  alignas(16) float b[2][depth * slice_row(tile)];
};

// Layouts: a_terms where the terms of a's lines are neighbours in memory, else its lines are; b_terms likewise.
template <uint32_t tile, uint32_t thread_m, uint32_t thread_n, bool one_chunk, bool a_terms, bool b_terms>
__device__ void multiply(const MatmulArgs& p, Slices<tile>& slices) {
  constexpr uint32_t across = tile / thread_n, threads = tile / thread_m * across;
  const Operand a{p.a, p.a_stride, p.m, p.k, p.a_aligned != 0};
  const Operand b{p.b, p.b_stride, p.n, p.k, p.b_aligned != 0};
  const Corner at = corner_of_block<tile>(p);

  SliceLoad<tile, depth, threads, a_terms> next_a;
  SliceLoad<tile, depth, threads, b_terms> next_b;
  float sums[thread_m][thread_n], totals[thread_m][thread_n];
  clear(sums);
  clear(totals);
  next_a.load(a, at.row, 0);
  next_b.load(b, at.column, 0);
  next_a.store(slices.a[0]);
  next_b.store(slices.b[0]);
  __syncthreads();
  for (uint32_t term = 0, now = 0; term < p.k; term += depth, now ^= 1) {
    const bool more = left(term, p.k) > depth;
    if (more) {
      next_a.load(a, at.row, term + depth);
      next_b.load(b, at.column, term + depth);
    }
    multiply_slices<depth, tile, tile>(sums, slices.a[now], slices.b[now]);
    if (more) {
      next_a.store(slices.a[now ^ 1]);
      next_b.store(slices.b[now ^ 1]);
    }
    if (!one_chunk && (term + depth) % chunk_terms == 0) end_chunk(totals, sums);
    __syncthreads();
  }
  end_chunk(totals, sums);

#pragma unroll
  for (uint32_t i = 0; i < thread_m; ++i) {
    const uint32_t m = at.row + line_of_thread<tile, thread_m>(threadIdx.x / across, i);
    if (m >= p.m) continue;
#pragma unroll
    for (uint32_t j = 0; j < thread_n; j += 4) {
      const uint32_t n = at.column + line_of_thread<tile, thread_n>(threadIdx.x % across, j);
      put(p, m, n, {{totals[i][j], totals[i][j + 1], totals[i][j + 2], totals[i][j + 3]}});
    }
  }
}

}  // namespace

// Names: the tile's size, then t for a where its terms are neighbours, l where its lines are, then b. With _long, k may
// be any number; without, one chunk at most, which saves the registers of the totals.
#define MATMUL(name, threads, blocks, tile, ...)                                              \
  extern "C" __global__ __launch_bounds__(threads, blocks) void name(const MatmulArgs args) { \
    static __shared__ Slices<tile> slices;                                                    \
    multiply<tile, __VA_ARGS__>(args, slices);                                                \
  }
MATMUL(matmul_128_tt, 256, 2, 128, 8, 8, true, true, true)
MATMUL(matmul_128_tl, 256, 2, 128, 8, 8, true, true, false)
MATMUL(matmul_128_lt, 256, 2, 128, 8, 8, true, false, true)
MATMUL(matmul_128_ll, 256, 2, 128, 8, 8, true, false, false)
MATMUL(matmul_128_tt_long, 256, 1, 128, 8, 8, false, true, true)
MATMUL(matmul_128_tl_long, 256, 1, 128, 8, 8, false, true, false)
MATMUL(matmul_128_lt_long, 256, 1, 128, 8, 8, false, false, true)
MATMUL(matmul_128_ll_long, 256, 1, 128, 8, 8, false, false, false)
MATMUL(matmul_64_tt_long, 128, 4, 64, 8, 4, false, true, true)
MATMUL(matmul_64_tl_long, 128, 4, 64, 8, 4, false, true, false)
MATMUL(matmul_64_lt_long, 128, 4, 64, 8, 4, false, false, true)
MATMUL(matmul_64_ll_long, 128, 4, 64, 8, 4, false, false, false)
MATMUL(matmul_32_tt_long, 64, 8, 32, 4, 4, false, true, true)
MATMUL(matmul_32_tl_long, 64, 8, 32, 4, 4, false, true, false)
MATMUL(matmul_32_lt_long, 64, 8, 32, 4, 4, false, false, true)
MATMUL(matmul_32_ll_long, 64, 8, 32, 4, 4, false, false, false)

}  // namespace kernels::cuda
