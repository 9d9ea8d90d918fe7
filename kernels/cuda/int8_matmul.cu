// The product of quantised vectors (docs/numerics.md section 9): matmul.cu's way with integers, whose sums may be taken
// in any order. Tiles of 64 x 64, 128 threads with 8 x 4 sums each.
#include "cuda/int8_matmul_args.h"
#include "cuda/tile.cuh"

namespace kernels::cuda {
namespace {

constexpr uint32_t tile = int8_tile, threads = int8_threads, thread_m = 8, thread_n = 4, across = tile / thread_n;
constexpr uint32_t depth = 32, units = depth / 4;  // terms of a slice, and units of four terms in 32 bits
constexpr uint32_t exact_terms = 1024;             // 127 * 127 * 1024 < 2^24: fp32 holds such a sum exactly

__device__ inline uint32_t byte_of(uint32_t word, uint32_t i) { return word >> 8 * i & 0xff; }

// Term t of line l stands at first[l * stride + t], or, where lines are the neighbours, at first[t * stride + l].
struct Digits {
  const int8_t* first;
  uint64_t stride;
  uint32_t lines, terms;
  bool aligned;
};

// The first `inside` of four digits, then zeros.
__device__ inline uint32_t load_word(const int8_t* from, uint32_t inside, bool aligned) {
  if (aligned && inside >= 4) return *reinterpret_cast<const uint32_t*>(from);
  uint32_t word = 0;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) {
    if (i < inside) word |= uint32_t{static_cast<uint8_t>(from[i])} << 8 * i;
  }
  return word;
}

// One thread's share of a slice on its way to shared memory: four units of a line, or one unit of four lines.
template <bool along_terms>
struct UnitsLoad {
  uint32_t values[4];

  __device__ void load(const Digits& from, uint32_t line, uint32_t term) {
    const uint32_t l = line + line_of(0), t = term + 4 * unit_of(0);
    if (along_terms) {
      const uint32_t inside = left(l, from.lines) ? left(t, from.terms) : 0;
      const int8_t* p = from.first + l * from.stride + t;
      if (from.aligned && inside >= 16) {
        const Four<uint32_t> v = *reinterpret_cast<const Four<uint32_t>*>(p);
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) values[i] = v.x[i];
      } else {
#pragma unroll
        for (uint32_t i = 0; i < 4; ++i) values[i] = load_word(p + 4 * i, left(4 * i, inside), false);
      }
    } else {
      const uint32_t inside = left(l, from.lines);
      uint32_t words[4];  // of a term and four lines each
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        words[i] = load_word(from.first + (t + i) * from.stride + l, t + i < from.terms ? inside : 0, from.aligned);
      }
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        values[i] =
            byte_of(words[0], i) | byte_of(words[1], i) << 8 | byte_of(words[2], i) << 16 | byte_of(words[3], i) << 24;
      }
    }
  }

  template <class Arithmetic>
  __device__ void store(typename Arithmetic::Slice& slice) const {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) Arithmetic::put(slice, line_of(i), unit_of(i), values[i]);
  }

 private:
  static_assert(tile * units == 4 * threads);
  __device__ static uint32_t line_of(uint32_t i) {
    return along_terms ? threadIdx.x / (units / 4) : threadIdx.x % (tile / 4) * 4 + i;
  }
  __device__ static uint32_t unit_of(uint32_t i) {
    return along_terms ? threadIdx.x % (units / 4) * 4 + i : threadIdx.x / (tile / 4);
  }
};

// Four products at once, from compute capability 6.1 on. The compiler's own __dp4a does not link in NVRTC 11.8.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ > 600
struct Dp4a {
  using Sum = int32_t;
  struct Slice {
    alignas(16) int32_t x[units * slice_row(tile)];
  };

  __device__ static void put(Slice& slice, uint32_t line, uint32_t unit, uint32_t value) {
    slice.x[unit * slice_row(tile) + line] = static_cast<int32_t>(value);
  }

  __device__ static void multiply(int32_t (&sums)[thread_m][thread_n], const Slice& a, const Slice& b) {
#pragma unroll
    for (uint32_t u = 0; u < units; ++u) {
      int32_t x[thread_m], y[thread_n];
      load_lines<tile>(x, a.x + u * slice_row(tile), threadIdx.x / across);
      load_lines<tile>(y, b.x + u * slice_row(tile), threadIdx.x % across);
#pragma unroll
      for (uint32_t i = 0; i < thread_m; ++i) {
#pragma unroll
        for (uint32_t j = 0; j < thread_n; ++j) sums[i][j] = dot(x[i], y[j], sums[i][j]);
      }
    }
  }

  __device__ static int32_t dot(int32_t a, int32_t b, int32_t sum) {
#if defined(__CUDA_ARCH__)
    asm("dp4a.s32.s32 %0, %1, %2, %0;" : "+r"(sum) : "r"(a), "r"(b));
    return sum;
#else
    return __dp4a(a, b, sum);
#endif
  }
};
#endif

// Compute capability 6.0: fp32 on whole numbers.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 600
struct Fp32 {
  using Sum = float;
  struct Slice {
    alignas(16) float x[depth * slice_row(tile)];
  };

  __device__ static void put(Slice& slice, uint32_t line, uint32_t unit, uint32_t value) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const auto digit = static_cast<int8_t>(byte_of(value, i));
      slice.x[(4 * unit + i) * slice_row(tile) + line] = static_cast<float>(digit);
    }
  }

  __device__ static void multiply(float (&sums)[thread_m][thread_n], const Slice& a, const Slice& b) {
    multiply_slices<depth, tile, tile>(sums, a.x, b.x);
  }
};
#endif

template <class Arithmetic>
struct Slices {
  typename Arithmetic::Slice a[2], b[2];
};

// The thread's sums are added to the totals and begin anew.
template <class Sum>
__device__ void drain(int32_t (&totals)[thread_m][thread_n], Sum (&sums)[thread_m][thread_n]) {
#pragma unroll
  for (uint32_t i = 0; i < thread_m; ++i) {
#pragma unroll
    for (uint32_t j = 0; j < thread_n; ++j) totals[i][j] += static_cast<int32_t>(sums[i][j]);
  }
  clear(sums);
}

// totals = the integer products of the tile's lines.
template <class Arithmetic, bool a_terms, bool b_terms>
__device__ void contract(int32_t (&totals)[thread_m][thread_n], const Digits& a, const Digits& b, const Corner& at,
                         Slices<Arithmetic>& slices) {
  UnitsLoad<a_terms> next_a;
  UnitsLoad<b_terms> next_b;
  typename Arithmetic::Sum sums[thread_m][thread_n];
  clear(totals);
  clear(sums);
  next_a.load(a, at.row, 0);
  next_b.load(b, at.column, 0);
  next_a.template store<Arithmetic>(slices.a[0]);
  next_b.template store<Arithmetic>(slices.b[0]);
  __syncthreads();
  for (uint32_t term = 0, now = 0; term < a.terms; term += depth, now ^= 1) {
    const bool more = left(term, a.terms) > depth;
    if (more) {
      next_a.load(a, at.row, term + depth);
      next_b.load(b, at.column, term + depth);
    }
    Arithmetic::multiply(sums, slices.a[now], slices.b[now]);
    if (more) {
      next_a.template store<Arithmetic>(slices.a[now ^ 1]);
      next_b.template store<Arithmetic>(slices.b[now ^ 1]);
    }
    if ((term + depth) % exact_terms == 0) drain(totals, sums);
    __syncthreads();
  }
  drain(totals, sums);
}

template <class Arithmetic, bool a_terms, bool b_terms>
__device__ void multiply(const Int8MatmulArgs& p, Slices<Arithmetic>& slices) {
  const Digits a{p.a, p.a_stride, p.m, p.k, p.a_aligned != 0}, b{p.b, p.b_stride, p.n, p.k, p.b_aligned != 0};
  const Corner at = corner_of_block<tile>(p);
  int32_t totals[thread_m][thread_n];
  float y[thread_m][thread_n];
  contract<Arithmetic, a_terms, b_terms>(totals, a, b, at, slices);
#pragma unroll
  for (uint32_t i = 0; i < thread_m; ++i) {
#pragma unroll
    for (uint32_t j = 0; j < thread_n; ++j) y[i][j] = static_cast<float>(totals[i][j]);
  }
  if (p.a_low) {
    const Digits low{p.a_low, p.a_stride, p.m, p.k, p.a_aligned != 0};
    contract<Arithmetic, a_terms, b_terms>(totals, low, b, at, slices);
#pragma unroll
    for (uint32_t i = 0; i < thread_m; ++i) {
#pragma unroll
      for (uint32_t j = 0; j < thread_n; ++j) {
        y[i][j] = __fmaf_rn(static_cast<float>(totals[i][j]), 1.0f / 254.0f, y[i][j]);
      }
    }
  }

  const uint32_t n = at.column + line_of_thread<tile, thread_n>(threadIdx.x % across, 0);
  const Vector4 one = {{1.0f, 1.0f, 1.0f, 1.0f}};
  const Vector4 b_scales = p.b_scales ? load4(p.b_scales + n, left(n, p.n), p.c_aligned != 0) : one;
#pragma unroll
  for (uint32_t i = 0; i < thread_m; ++i) {
    const uint32_t m = at.row + line_of_thread<tile, thread_m>(threadIdx.x / across, i);
    if (m >= p.m) continue;
    const float a_scale = p.a_scales ? p.a_scales[m] : 1.0f;
    Vector4 v;
#pragma unroll
    for (uint32_t j = 0; j < 4; ++j) v.x[j] = (y[i][j] * a_scale) * b_scales.x[j];
    put(p, m, n, v);
  }
}

}  // namespace

// Names: t for a where its terms are neighbours, l where its lines are, then b.
#define INT8_MATMUL(name, Arithmetic, a_terms, b_terms)                                      \
  extern "C" __global__ __launch_bounds__(threads, 2) void name(const Int8MatmulArgs args) { \
    static __shared__ Slices<Arithmetic> slices;                                             \
    multiply<Arithmetic, a_terms, b_terms>(args, slices);                                    \
  }
#if !defined(__CUDA_ARCH__)  // the executor, which knows both arithmetics
INT8_MATMUL(int8_matmul_tt_fp32, Fp32, true, true)
INT8_MATMUL(int8_matmul_tl_fp32, Fp32, true, false)
INT8_MATMUL(int8_matmul_lt_fp32, Fp32, false, true)
INT8_MATMUL(int8_matmul_ll_fp32, Fp32, false, false)
#endif
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ > 600
using Best = Dp4a;
#else
using Best = Fp32;
#endif
INT8_MATMUL(int8_matmul_tt, Best, true, true)
INT8_MATMUL(int8_matmul_tl, Best, true, false)
INT8_MATMUL(int8_matmul_lt, Best, false, true)
INT8_MATMUL(int8_matmul_ll, Best, false, false)

}  // namespace kernels::cuda
