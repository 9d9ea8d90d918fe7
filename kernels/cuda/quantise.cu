// Vectors as int8 digits and a scale, docs/numerics.md section 9. The maximum of magnitudes is one of integers, so any
// order of threads gives it.
#include "cuda/elementary.cuh"
#include "cuda/grid.cuh"
#include "cuda/quantise_args.h"
#include "cuda/reduce.cuh"

namespace kernels::cuda {

// What vectors whose largest magnitude has these bits are multiplied by, and their scale.
struct Int8Scale {
  float inverse, scale;
  bool usable;
};

__device__ inline Int8Scale int8_scale(uint32_t bits) {
  const float amax = __uint_as_float(bits);
  if (bits >= 0x7f800000u) return {0.0f, nan(), false};
  if (amax < 0x1p-100f) return {0.0f, 0.0f, false};
  return {127.0f / amax, amax / 127.0f, true};
}

__device__ inline void put_digits(const QuantiseArgs& args, uint64_t at, float x, const Int8Scale& by) {
  const float p = x * by.inverse;
  const int32_t q = by.usable ? __float2int_rn(p) : 0;
  args.q[at] = static_cast<int8_t>(q);
  if (!args.low) return;
  const int32_t low = by.usable ? __float2int_rn((p - static_cast<float>(q)) * 254.0f) : 0;
  args.low[at] = static_cast<int8_t>(low);
}

// A block of quantise_warps warps per row.
extern "C" __global__ void quantise_rows(const QuantiseArgs args) {
  static __shared__ uint32_t largest[quantise_warps];
  const uint64_t first = uint64_t{blockIdx.x} * args.row;
  const auto x = [&](uint32_t i) { return args.x[first + i]; };
  uint32_t bits = 0;
  for (uint32_t i = threadIdx.x; i < args.columns; i += 32 * quantise_warps) {
    const uint32_t other = magnitude_bits(x(i));
    bits = other > bits ? other : bits;
  }
  bits = warp_maximum(bits);
  if (lane() == 0) largest[threadIdx.x / 32] = bits;
  __syncthreads();
  for (uint32_t warp = 0; warp < quantise_warps; ++warp) bits = largest[warp] > bits ? largest[warp] : bits;
  const Int8Scale by = int8_scale(bits);
  for_each_read<8>(threadIdx.x, args.columns, 32 * quantise_warps, x,
                   [&](uint32_t i, float value) { put_digits(args, first + i, value, by); });
  if (threadIdx.x == 0) args.scales[blockIdx.x] = by.scale;
}

// A block of (32, column_warps) threads per 32 columns, along x, and block of rows, along y.
extern "C" __global__ void quantise_columns(const QuantiseArgs args) {
  static __shared__ uint32_t largest[column_warps][32];
  const uint32_t column = blockIdx.x * 32 + threadIdx.x;
  const uint32_t begin = blockIdx.y * args.block, end = begin + min(args.rows - begin, args.block);
  const bool inside = column < args.columns;
  const auto x = [&](uint64_t row) {
    const float value = args.x[row * args.row + column];
    return args.row_factors ? args.row_factors[row] * value : value;
  };
  uint32_t bits = 0;
  for (uint32_t row = begin + threadIdx.y; inside && row < end; row += column_warps) {
    const uint32_t other = magnitude_bits(x(row));
    bits = other > bits ? other : bits;
  }
  largest[threadIdx.y][threadIdx.x] = bits;
  __syncthreads();
  for (uint32_t warp = 0; warp < column_warps; ++warp) {
    const uint32_t other = largest[warp][threadIdx.x];
    bits = other > bits ? other : bits;
  }
  const Int8Scale by = int8_scale(bits);
  for_each_read<8>(begin + threadIdx.y, inside ? end : 0, column_warps, x,
                   [&](uint32_t row, float value) { put_digits(args, uint64_t{row} * args.row + column, value, by); });
  if (inside && threadIdx.y == 0) args.scales[uint64_t{blockIdx.y} * args.columns + column] = by.scale;
}

}  // namespace kernels::cuda
