// The product of quantised vectors (docs/numerics.md section 9): matmul.cu's way with integers, whose sums may be taken
// in any order. Each device has the arithmetics that serve it.
#include "cuda/grid.cuh"
#include "cuda/int8_matmul_args.h"
#include "cuda/int8_own_sums.cuh"
#include "cuda/tensor_cores.cuh"

namespace kernels::cuda {
namespace {

template <class Arithmetic>
struct Slices {
  typename Arithmetic::Slice a[2], b[2];
};

// One thread's share of a slice on its way to shared memory.
template <class Arithmetic, bool along_terms>
struct UnitsLoad {
  Units values[Arithmetic::groups];

  __device__ void load(const Digits& from, uint32_t line, uint32_t term) {
#pragma unroll
    for (uint32_t g = 0; g < Arithmetic::groups; ++g) {
      const Place at = Arithmetic::template place<along_terms>(g);
      values[g] = load_units<along_terms>(from, line + at.line, term + 4 * at.unit);
    }
  }

  __device__ void store(typename Arithmetic::Slice& slice) const {
#pragma unroll
    for (uint32_t g = 0; g < Arithmetic::groups; ++g) {
      const Place at = Arithmetic::template place<along_terms>(g);
      Arithmetic::template put<along_terms>(slice, at, along_terms ? values[g] : transposed(values[g]));
    }
  }
};

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

// totals = the integer products of the tile's lines. Each step fetches a slice and multiplies the one before.
template <class Arithmetic, bool a_terms, bool b_terms>
__device__ void contract(int32_t (&totals)[Arithmetic::thread_m][Arithmetic::thread_n], const Digits& a,
                         const Digits& b, const Corner& at, Slices<Arithmetic>& slices) {
  const uint32_t steps = (a.terms + Arithmetic::depth - 1) / Arithmetic::depth;
  UnitsLoad<Arithmetic, a_terms> next_a;
  UnitsLoad<Arithmetic, b_terms> next_b;
  typename Arithmetic::Sum sums[Arithmetic::thread_m][Arithmetic::thread_n];
  clear(totals);
  clear(sums);
#pragma unroll 1
  for (uint32_t step = 0; step <= steps; ++step) {
    const uint32_t term = step * Arithmetic::depth, now = step % 2;
    next_a.load(a, at.row, term);
    next_b.load(b, at.column, term);
    if (step > 0) Arithmetic::multiply(sums, slices.a[now ^ 1], slices.b[now ^ 1]);
    if (step < steps) {
      next_a.store(slices.a[now]);
      next_b.store(slices.b[now]);
    }
    if (Arithmetic::terms_of_sum && term % Arithmetic::terms_of_sum == 0) drain(totals, sums);
    __syncthreads();
  }
  drain(totals, sums);
}

// For four neighbours of c.
__device__ inline Vector4 load_b_scales(const Int8MatmulArgs& p, uint32_t n) {
  if (!p.b_scales) return {{1.0f, 1.0f, 1.0f, 1.0f}};
  return load4(p.b_scales + n, left(n, p.n), p.c_aligned != 0);
}

__device__ inline void put_scaled(const Int8MatmulArgs& p, uint32_t m, uint32_t n, const Vector4& y,
                                  const Vector4& b_scales) {
  const float a_scale = p.a_scales ? p.a_scales[m] : 1.0f;
  Vector4 v;
#pragma unroll
  for (uint32_t e = 0; e < 4; ++e) v.x[e] = (y.x[e] * a_scale) * b_scales.x[e];
  put(p, m, n, v);
}

template <class Arithmetic, bool a_terms, bool b_terms>
__device__ void multiply(const Int8MatmulArgs& p, Slices<Arithmetic>& slices) {
  constexpr uint32_t thread_m = Arithmetic::thread_m, thread_n = Arithmetic::thread_n;
  const Digits b{p.b, p.b_stride, p.n, p.k, p.b_aligned != 0};
  const Corner at = corner_of_tile(p, blockIdx.x, Arithmetic::tile);
  float y[thread_m][thread_n];
#pragma unroll 1
  for (uint32_t digit = 0; digit < (p.a_low ? 2 : 1); ++digit) {
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

#pragma unroll
  for (uint32_t j = 0; j < thread_n; j += 4) {
    const uint32_t n = at.column + Arithmetic::column(j);
    const Vector4 b_scales = load_b_scales(p, n);
#pragma unroll
    for (uint32_t i = 0; i < thread_m; ++i) {
      const uint32_t m = at.row + Arithmetic::row(i);
      if (m < p.m) put_scaled(p, m, n, {{y[i][j], y[i][j + 1], y[i][j + 2], y[i][j + 3]}}, b_scales);
    }
  }
}

template <uint32_t tile>
using Mma8 = TensorCores<tile, M8n8k16>;
template <uint32_t tile>
using Mma16 = TensorCores<tile, M16n8k32>;

}  // namespace

// Names: the tile's size, then t for a where its terms are neighbours, l where its lines are, then b, then the
// arithmetic.
#define INT8_MATMUL_KERNEL(name, Arithmetic, blocks, a_terms, b_terms)                                        \
  extern "C" __global__ __launch_bounds__(Arithmetic::threads, blocks) void name(const Int8MatmulArgs args) { \
    static __shared__ Slices<Arithmetic> slices;                                                              \
    multiply<Arithmetic, a_terms, b_terms>(args, slices);                                                     \
  }
#define INT8_MATMUL(tile, arithmetic, Arithmetic, blocks)                                   \
  INT8_MATMUL_KERNEL(int8_matmul_##tile##_tt_##arithmetic, Arithmetic, blocks, true, true)  \
  INT8_MATMUL_KERNEL(int8_matmul_##tile##_tl_##arithmetic, Arithmetic, blocks, true, false) \
  INT8_MATMUL_KERNEL(int8_matmul_##tile##_lt_##arithmetic, Arithmetic, blocks, false, true) \
  INT8_MATMUL_KERNEL(int8_matmul_##tile##_ll_##arithmetic, Arithmetic, blocks, false, false)

// What follows where a library has left the integer sums in c, int32 in place of fp32.
extern "C" __global__ void int8_matmul_scales(const Int8MatmulArgs args) {
  for_each_row_and_column(args.m, (args.n + 3) / 4, [&](uint64_t m, uint32_t group) {
    const uint32_t n = 4 * group, inside = left(n, args.n);
    const Vector4 sums = load4(args.c + m * args.ldc + n, inside, args.c_aligned != 0);
    Vector4 y;
#pragma unroll
    for (uint32_t e = 0; e < 4; ++e) y.x[e] = static_cast<float>(static_cast<int32_t>(__float_as_uint(sums.x[e])));
    put_scaled(args, static_cast<uint32_t>(m), n, y, load_b_scales(args, n));
  });
}

// Which capabilities have which; the executor of tests/simt/, which is none, has all.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 600
INT8_MATMUL(64, fp32, Fp32, 2)
#endif
#if !defined(__CUDA_ARCH__) || (__CUDA_ARCH__ > 600 && __CUDA_ARCH__ <= 750)
INT8_MATMUL(64, dp4a, Dp4a, 2)
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
