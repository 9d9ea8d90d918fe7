// The product of quantised vectors (docs/numerics.md section 9): matmul.cu's way with integers, whose sums may be taken
// in any order. Each device has the arithmetics that serve it.
#include "cuda/grid.cuh"
#include "cuda/int8_matmul_args.h"
#include "cuda/int8_own_sums.cuh"
#include "cuda/tensor_cores.cuh"

namespace kernels::cuda {
namespace {

using Digits = NarrowOperand<int8_t>;

// The thread's sums are added to the totals and begin anew.
template <uint32_t rows, uint32_t columns, class Sum>
__device__ void drain(int32_t (&totals)[rows][columns], Sum (&sums)[rows][columns]) {
#pragma unroll
  for (uint32_t i = 0; i < rows; ++i) {
#pragma unroll
    for (uint32_t j = 0; j < columns; ++j) totals[i][j] += static_cast<int32_t>(sums[i][j]);
  }
  clear(sums);
}

// totals = the integer products of the tile's lines.
template <class Arithmetic, bool a_terms, bool b_terms>
__device__ void contract(int32_t (&totals)[Arithmetic::thread_m][Arithmetic::thread_n], const Digits& a,
                         const Digits& b, const Corner& at, Slices<Arithmetic>& slices) {
  constexpr uint32_t terms_of_sum = Arithmetic::terms_of_sum;
  const Arithmetic arithmetic(slices);
  typename Arithmetic::Sum sums[Arithmetic::thread_m][Arithmetic::thread_n];
  clear(totals);
  clear(sums);
  for_each_slice<a_terms, b_terms>(a, b, at, slices, [&](uint32_t which, uint32_t term) {
    arithmetic.multiply(sums, which);
    if (terms_of_sum && (term + Arithmetic::depth) % terms_of_sum == 0) drain(totals, sums);
  });
  drain(totals, sums);
}

// For four neighbours of c, in a block of tokens.
__device__ inline Vector4 load_b_scales(const Int8MatmulArgs& p, uint32_t block, uint32_t n) {
  if (!p.b_scales) return {{1.0f, 1.0f, 1.0f, 1.0f}};
  return load4(p.b_scales + block * p.block_scales + n, left(n, p.n), p.c_aligned != 0);
}

__device__ inline Vector4 scaled(const Int8MatmulArgs& p, uint32_t block, uint32_t m, const Vector4& y,
                                 const Vector4& b_scales) {
  const float a_scale = p.a_scales ? p.a_scales[block * p.block_scales + m] : 1.0f;
  Vector4 v;
#pragma unroll
  for (uint32_t e = 0; e < 4; ++e) v.x[e] = (y.x[e] * a_scale) * b_scales.x[e];
  return v;
}

__device__ inline void put_scaled(const Int8MatmulArgs& p, uint32_t m, uint32_t n, const Vector4& y,
                                  const Vector4& b_scales) {
  put(p, m, n, scaled(p, 0, m, y, b_scales));
}

// f(m, n, i, j) for each four neighbours of c that the thread has: its sums (i, j) to (i, j + 3).
template <class Arithmetic, class F>
__device__ void for_each_four(const Int8MatmulArgs& p, const Corner& at, F f) {
#pragma unroll
  for (uint32_t j = 0; j < Arithmetic::thread_n; j += 4) {
    const uint32_t n = at.column + Arithmetic::column(j);
#pragma unroll
    for (uint32_t i = 0; i < Arithmetic::thread_m; ++i) {
      const uint32_t m = at.row + Arithmetic::row(i);
      if (m < p.m) f(m, n, i, j);
    }
  }
}

template <class Arithmetic, bool a_terms, bool b_terms>
__device__ void multiply(const Int8MatmulArgs& p, Slices<Arithmetic>& slices) {
  constexpr uint32_t thread_m = Arithmetic::thread_m, thread_n = Arithmetic::thread_n;
  const Digits b{p.b, p.b_stride, p.n, p.k, p.b_aligned != 0};
  const Corner at = corner_of_tile(p, blockIdx.x, Arithmetic::tile);
  const uint32_t digits = kept(p.a_low ? 2 : 1);
  float y[thread_m][thread_n];
#pragma unroll 1
  for (uint32_t digit = 0; digit < digits; ++digit) {
    const Digits a{digit == 0 ? p.a : p.a_low, p.a_stride, p.m, p.k, p.a_aligned != 0};
    int32_t totals[thread_m][thread_n];
    contract<Arithmetic, a_terms, b_terms>(totals, a, b, at, slices);
#pragma unroll
    for (uint32_t i = 0; i < thread_m; ++i) {
#pragma unroll
      for (uint32_t j = 0; j < thread_n; ++j) {
        const float total = static_cast<float>(totals[i][j]);
        y[i][j] = digit == 0 ? total : __fmaf_rn(total, 1.0f / 254.0f, y[i][j]);
      }
    }
  }

  loop_over_fours<Arithmetic::threads>(y, slices, [&](uint32_t i, uint32_t j, const Vector4& four) {
    const uint32_t m = at.row + Arithmetic::row(i), n = at.column + Arithmetic::column(j);
    if (m < p.m) put_scaled(p, m, n, four, load_b_scales(p, 0, n));
  });
}

// The gradient of a weight, whose terms are tokens: of both operands the lines are neighbours. c stays in registers
// from block to block of tokens.
template <class Arithmetic>
__device__ void multiply_blocks(const Int8MatmulArgs& p, Slices<Arithmetic>& slices) {
  constexpr uint32_t thread_m = Arithmetic::thread_m, thread_n = Arithmetic::thread_n;
  const Corner at = corner_of_tile(p, blockIdx.x, Arithmetic::tile);
  float totals[thread_m][thread_n];
  clear(totals);
  for_each_four<Arithmetic>(p, at, [&](uint32_t m, uint32_t n, uint32_t i, uint32_t j) {
    const Vector4 c = load4(p.c + m * p.ldc + n, left(n, p.n), p.c_aligned != 0);
#pragma unroll
    for (uint32_t e = 0; e < 4; ++e) totals[i][j + e] = c.x[e];
  });
#pragma unroll 1
  for (uint32_t first = 0, block = 0; first < p.k; first += p.block, ++block) {
    const uint32_t terms = min(p.k - first, p.block);
    const Digits a{p.a + first * p.a_stride, p.a_stride, p.m, terms, p.a_aligned != 0};
    const Digits b{p.b + first * p.b_stride, p.b_stride, p.n, terms, p.b_aligned != 0};
    int32_t sums[thread_m][thread_n];
    contract<Arithmetic, false, false>(sums, a, b, at, slices);
    for_each_four<Arithmetic>(p, at, [&](uint32_t m, uint32_t n, uint32_t i, uint32_t j) {
      Vector4 y;
#pragma unroll
      for (uint32_t e = 0; e < 4; ++e) y.x[e] = static_cast<float>(sums[i][j + e]);
      const Vector4 v = scaled(p, block, m, y, load_b_scales(p, block, n));
#pragma unroll
      for (uint32_t e = 0; e < 4; ++e) totals[i][j + e] = totals[i][j + e] + v.x[e];
    });
  }
  for_each_four<Arithmetic>(p, at, [&](uint32_t m, uint32_t n, uint32_t i, uint32_t j) {
    const Vector4 total = {{totals[i][j], totals[i][j + 1], totals[i][j + 2], totals[i][j + 3]}};
    store4(p.c + m * p.ldc + n, total, left(n, p.n), p.c_aligned != 0);
  });
}

template <uint32_t tile>
using Mma8 = TensorCores<tile, M8n8k16>;
template <uint32_t tile>
using Mma16 = TensorCores<tile, M16n8k32>;

}  // namespace

// Names: the tile's size, then t for a where its terms are neighbours, l where its lines are, then b, or `blocks`, then
// the arithmetic.
#define INT8_MATMUL_KERNEL(name, Arithmetic, blocks, a_terms, b_terms)                                        \
  extern "C" __global__ __launch_bounds__(Arithmetic::threads, blocks) void name(const Int8MatmulArgs args) { \
    static __shared__ Slices<Arithmetic> slices;                                                              \
    multiply<Arithmetic, a_terms, b_terms>(args, slices);                                                     \
  }
#define INT8_MATMUL_BLOCKS_KERNEL(name, Arithmetic, blocks)                                                   \
  extern "C" __global__ __launch_bounds__(Arithmetic::threads, blocks) void name(const Int8MatmulArgs args) { \
    static __shared__ Slices<Arithmetic> slices;                                                              \
    multiply_blocks<Arithmetic>(args, slices);                                                                \
  }
#define INT8_MATMUL(tile, arithmetic, Arithmetic, blocks)                                    \
  INT8_MATMUL_KERNEL(int8_matmul_##tile##_tt_##arithmetic, Arithmetic, blocks, true, true)   \
  INT8_MATMUL_KERNEL(int8_matmul_##tile##_tl_##arithmetic, Arithmetic, blocks, true, false)  \
  INT8_MATMUL_KERNEL(int8_matmul_##tile##_lt_##arithmetic, Arithmetic, blocks, false, true)  \
  INT8_MATMUL_KERNEL(int8_matmul_##tile##_ll_##arithmetic, Arithmetic, blocks, false, false) \
  INT8_MATMUL_BLOCKS_KERNEL(int8_matmul_##tile##_blocks_##arithmetic, Arithmetic, blocks)

// What follows where a library has left the integer sums in c, int32 in place of fp32.
extern "C" __global__ void int8_matmul_scales(const Int8MatmulArgs args) {
  for_each_row_and_column(args.m, (args.n + 3) / 4, [&](uint64_t m, uint32_t group) {
    const uint32_t n = 4 * group, inside = left(n, args.n);
    const Vector4 sums = load4(args.c + m * args.ldc + n, inside, args.c_aligned != 0);
    Vector4 y;
#pragma unroll
    for (uint32_t e = 0; e < 4; ++e) y.x[e] = static_cast<float>(static_cast<int32_t>(__float_as_uint(sums.x[e])));
    put_scaled(args, static_cast<uint32_t>(m), n, y, load_b_scales(args, 0, n));
  });
}

// Which capabilities have which; the executor of tests/simt/, which is none, has all.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 600
INT8_MATMUL(64, fp32, Fp32, 2)
#endif
#if !defined(__CUDA_ARCH__) || (__CUDA_ARCH__ > 600 && __CUDA_ARCH__ <= 750)
INT8_MATMUL(64, dp4a, Dp4a, 4)
#endif
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 750  // also what the driver compiles for cards to come
INT8_MATMUL(64, m8n8k16, Mma8<64>, 3)
INT8_MATMUL(128, m8n8k16, Mma8<128>, 1)
#endif
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
INT8_MATMUL(64, m16n8k32, Mma16<64>, 3)
INT8_MATMUL(128, m16n8k32, Mma16<128>, 1)
#endif

}  // namespace kernels::cuda
