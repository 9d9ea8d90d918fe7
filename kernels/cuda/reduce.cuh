// The sums of docs/numerics.md section 3 as warps and blocks form them.
#pragma once

#include "cuda/run_sums_args.h"
#include "cuda/shapes.h"

namespace kernels::cuda {

constexpr uint32_t all_lanes = 0xffffffff;

__device__ inline uint32_t lane() { return threadIdx.x % warp_lanes; }

// The sum of the lanes in a row sum's order; all 32 of the warp call it and get it.
__device__ inline float warp_sum(float x) {
  for (int lanes = 16; lanes >= 1; lanes /= 2) x = x + __shfl_xor_sync(all_lanes, x, lanes);
  return x;
}

// The row sum of x(0) … x(count - 1) by a warp of 32 threads along x, all of which call it and get it.
template <class X>
__device__ inline float row_sum(uint32_t count, X x) {
  float total = 0.0f;
  for (uint32_t first = 0; first < count; first += segment_elements) {
    const uint32_t end = count - first < segment_elements ? count : first + segment_elements;
    float sum = 0.0f;
    for (uint32_t i = first + lane(); i < end; i += warp_lanes) sum = sum + x(i);
    total = total + warp_sum(sum);
  }
  return total;
}

// The largest value of the warp's lanes, whatever their order; all 32 lanes call it.
__device__ inline uint32_t warp_maximum(uint32_t value) {
  for (int lanes = 16; lanes >= 1; lanes /= 2) {
    const uint32_t other = __shfl_xor_sync(all_lanes, value, lanes);
    value = other > value ? other : value;
  }
  return value;
}

// Run sums over rows, for 32 columns a block of (32, run_warps) threads: each warp adds up a run, then one warp per sum
// adds the runs. `partial` is shared memory.
template <uint32_t sums>
using RunPartials = float[sums][run_warps][32];

// The run sums of what add(row, column, acc) adds to acc[number of the sum], of the block of tokens that is the grid's
// y.
template <uint32_t sums, class Add>
__device__ inline void add_run_sums(const RunSums& of, RunPartials<sums>& partial, Add add) {
  static_assert(sums <= run_sums);
  const uint32_t warp = threadIdx.y, column = blockIdx.x * 32 + threadIdx.x;
  const bool inside = column < of.columns;
  const uint32_t first_row = blockIdx.y * of.block, rows = min(of.rows - first_row, of.block);
  const uint32_t runs = (rows + run_elements - 1) / run_elements;
  float total = 0.0f;
  for (uint32_t first = 0; first < runs; first += run_warps) {
    float acc[sums] = {};
    const uint32_t begin = (first + warp) * run_elements;
    if (inside && begin < rows) {
      const uint32_t end = rows - begin < run_elements ? rows : begin + run_elements;
      for (uint32_t row = begin; row < end; ++row) add(first_row + row, column, acc);
    }
    for (uint32_t s = 0; s < sums; ++s) partial[s][warp][threadIdx.x] = acc[s];
    __syncthreads();
    if (warp < sums) {
      for (uint32_t run = 0; run < run_warps && first + run < runs; ++run)
        total = total + partial[warp][run][threadIdx.x];
    }
    __syncthreads();
  }
  if (warp >= sums || !inside) return;
  if (of.block_sums) {
    of.block_sums[(uint64_t{blockIdx.y} * sums + warp) * of.columns + column] = total;
  } else {
    float* const out = warp == 0 ? of.out[0] : of.out[1];
    out[column] = out[column] + total;
  }
}

}  // namespace kernels::cuda
