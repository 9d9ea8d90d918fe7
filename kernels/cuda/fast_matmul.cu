// The products of `fast` (docs/numerics.md section 10): int8_matmul.cu's way with halves, by mma.sync. A tile of 128
// does 64 operations for each byte that it reads: an estimate, not measured, is that an H100's second-level cache (some
// 5 TB/s) so feeds its tensor cores with a third of what they could do.
#include "cuda/elementary.cuh"
#include "cuda/fast_matmul_args.h"
#include "cuda/numbers.cuh"
#include "cuda/tensor_cores.cuh"

namespace kernels::cuda {
namespace {

// c and its bias, halves or fp32: four neighbours from number `first` of the array on.
template <class Half>
__device__ Vector4 load_numbers(const void* array, uint64_t first, bool halves, uint32_t inside, bool aligned) {
  if (halves) return HalvesOf<Half>::load(HalvesOf<Half>::in(array) + first, inside, aligned);
  return load4(static_cast<const float*>(array) + first, inside, aligned);
}

// What follows the contraction, for four neighbours of c. Of GELU and its derivative at most one is asked for.
template <class Half>
__device__ void put_sums(const FastMatmulArgs& p, uint32_t m, uint32_t n, Vector4 y) {
  using Halves = HalvesOf<Half>;
  const uint32_t inside = left(n, p.n);
  const bool aligned = p.c_aligned != 0, halves = p.c_halves != 0;
  const uint64_t at = m * p.ldc + n;
  if (p.bias) y = y + load_numbers<Half>(p.bias, n, halves, inside, aligned);
  if (p.before_gelu) Halves::store(Halves::out(p.before_gelu) + at, y, inside, aligned);
  if (p.before_gelu || p.gelu_input) {
    const Vector4 x = p.gelu_input ? Halves::load(Halves::in(p.gelu_input) + at, inside, aligned) : y;
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) y.x[i] = p.gelu_input ? y.x[i] * gelu_slope(x.x[i]) : gelu(x.x[i]);
  }
  if (p.residual) y = y + load4(p.residual + at, inside, aligned);
  if (p.accumulate) y = load_numbers<Half>(p.c, at, halves, inside, aligned) + y;
  if (halves)
    Halves::store(Halves::out(p.c) + at, y, inside, aligned);
  else
    store4(static_cast<float*>(p.c) + at, y, inside, aligned);
}

template <class Half, uint32_t tile, bool a_terms, bool b_terms, class Cores = TensorCores<tile, HalvesMma<Half>>>
__device__ void multiply(const FastMatmulArgs& p, Slices<Cores>& slices) {
  const NarrowOperand<uint16_t> a{p.a, p.a_stride, p.m, p.k, p.a_aligned != 0};
  const NarrowOperand<uint16_t> b{p.b, p.b_stride, p.n, p.k, p.b_aligned != 0};
  const Corner at = corner_of_tile(p, blockIdx.x, tile);
  const Cores cores(slices);
  float sums[Cores::thread_m][Cores::thread_n];
  clear(sums);
  for_each_slice<a_terms, b_terms>(a, b, at, slices, [&](uint32_t which, uint32_t) { cores.multiply(sums, which); });
  loop_over_fours<Cores::threads>(sums, slices, [&](uint32_t i, uint32_t j, const Vector4& y) {
    const uint32_t m = at.row + Cores::row(i);
    if (m < p.m) put_sums<Half>(p, m, at.column + Cores::column(j), y);
  });
}

}  // namespace

// Names: the tile's size, then t for a where its terms are neighbours, l where its lines are, then b, then what the
// operands are rounded to.
#define FAST_MATMUL_KERNEL(name, Half, tile, blocks, a_terms, b_terms)                                       \
  extern "C" __global__ __launch_bounds__(line_threads* tile, blocks) void name(const FastMatmulArgs args) { \
    static __shared__ Slices<TensorCores<tile, HalvesMma<Half>>> slices;                                     \
    multiply<Half, tile, a_terms, b_terms>(args, slices);                                                    \
  }
#define FAST_MATMUL(tile, suffix, Half, blocks)                                        \
  FAST_MATMUL_KERNEL(fast_matmul_##tile##_tt##suffix, Half, tile, blocks, true, true)  \
  FAST_MATMUL_KERNEL(fast_matmul_##tile##_tl##suffix, Half, tile, blocks, true, false) \
  FAST_MATMUL_KERNEL(fast_matmul_##tile##_lt##suffix, Half, tile, blocks, false, true) \
  FAST_MATMUL_KERNEL(fast_matmul_##tile##_ll##suffix, Half, tile, blocks, false, false)

#define FAST_MATMULS(suffix, Half) FAST_MATMUL(64, suffix, Half, 3) FAST_MATMUL(128, suffix, Half, 1)

FOR_HALVES(FAST_MATMULS)

}  // namespace kernels::cuda
