// The products of `fast` (docs/numerics.md section 10): int8_matmul.cu's way with halves, by mma.sync. Operands lie in
// global memory as fp32 and become halves on their way to shared memory. A tile of 128 then does 32 operations for each
// byte that it reads: an estimate, not measured, is that an H100's second-level cache (some 5 TB/s) so feeds its tensor
// cores with a sixth of what they could do. Copies as halves, made before, would double that, for a pass over each
// operand.
#include "cuda/matmul_args.h"
#include "cuda/tensor_cores.cuh"

namespace kernels::cuda {
namespace {

template <class Cores>
struct HalfSlices {
  typename Cores::Slice a[2], b[2];
};

// One thread's share of a slice on its way to shared memory, fp32 until it is stored: for each group eight terms of a
// line where terms are the neighbours (along_terms), else two terms of four lines.
template <class Cores, class Half, bool along_terms>
struct HalvesLoad {
  Vector4 values[Cores::groups][2];

  __device__ void load(const Operand& from, uint32_t line, uint32_t term) {
#pragma unroll
    for (uint32_t g = 0; g < Cores::groups; ++g) {
      const Place at = Cores::template place<along_terms>(g);
      const uint32_t l = line + at.line, t = term + 2 * at.unit, lines_left = left(l, from.lines);
#pragma unroll
      for (uint32_t i = 0; i < 2; ++i) {
        if (along_terms) {
          const uint32_t inside = lines_left ? left(t + 4 * i, from.terms) : 0;
          values[g][i] = load4(from.first + l * from.stride + t + 4 * i, inside, from.aligned);
        } else {
          const uint32_t inside = t + i < from.terms ? lines_left : 0;
          values[g][i] = load4(from.first + (t + i) * from.stride + l, inside, from.aligned);
        }
      }
    }
  }

  __device__ void store(typename Cores::Slice& slice) const {
#pragma unroll
    for (uint32_t g = 0; g < Cores::groups; ++g) {
      Units units;
#pragma unroll
      for (uint32_t i = 0; i < 4; ++i) {
        units.x[i] = along_terms ? Half::pack(values[g][i / 2].x[i % 2 * 2], values[g][i / 2].x[i % 2 * 2 + 1])
                                 : Half::pack(values[g][0].x[i], values[g][1].x[i]);
      }
      Cores::template put<along_terms>(slice, Cores::template place<along_terms>(g), units);
    }
  }
};

// Each step fetches a slice and multiplies the one before.
template <class Half, uint32_t tile, bool a_terms, bool b_terms, class Cores = TensorCores<tile, HalvesMma<Half>>>
__device__ void multiply(const MatmulArgs& p, HalfSlices<Cores>& slices) {
  const Operand a{p.a, p.a_stride, p.m, p.k, p.a_aligned != 0};
  const Operand b{p.b, p.b_stride, p.n, p.k, p.b_aligned != 0};
  const Corner at = corner_of_tile(p, blockIdx.x, tile);
  const uint32_t steps = (p.k + Cores::depth - 1) / Cores::depth;
  HalvesLoad<Cores, Half, a_terms> next_a;
  HalvesLoad<Cores, Half, b_terms> next_b;
  float sums[Cores::thread_m][Cores::thread_n];
  clear(sums);
#pragma unroll 1
  for (uint32_t step = 0; step <= steps; ++step) {
    const uint32_t term = step * Cores::depth, now = step % 2;
    next_a.load(a, at.row, term);
    next_b.load(b, at.column, term);
    if (step > 0) Cores::multiply(sums, slices.a[now ^ 1], slices.b[now ^ 1]);
    if (step < steps) {
      next_a.store(slices.a[now]);
      next_b.store(slices.b[now]);
    }
    __syncthreads();
  }
#pragma unroll
  for (uint32_t i = 0; i < Cores::thread_m; ++i) {
    const uint32_t m = at.row + Cores::row(i);
    if (m >= p.m) continue;
#pragma unroll
    for (uint32_t j = 0; j < Cores::thread_n; j += 4)
      put(p, m, at.column + Cores::column(j), {{sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]}});
  }
}

}  // namespace

// Names: the tile's size, then t for a where its terms are neighbours, l where its lines are, then b, then what the
// operands are rounded to.
#define FAST_MATMUL_KERNEL(name, Half, tile, blocks, a_terms, b_terms)                                   \
  extern "C" __global__ __launch_bounds__(line_threads* tile, blocks) void name(const MatmulArgs args) { \
    static __shared__ HalfSlices<TensorCores<tile, HalvesMma<Half>>> slices;                             \
    multiply<Half, tile, a_terms, b_terms>(args, slices);                                                \
  }
#define FAST_MATMUL(tile, half, Half, blocks)                                         \
  FAST_MATMUL_KERNEL(fast_matmul_##tile##_tt_##half, Half, tile, blocks, true, true)  \
  FAST_MATMUL_KERNEL(fast_matmul_##tile##_tl_##half, Half, tile, blocks, true, false) \
  FAST_MATMUL_KERNEL(fast_matmul_##tile##_lt_##half, Half, tile, blocks, false, true) \
  FAST_MATMUL_KERNEL(fast_matmul_##tile##_ll_##half, Half, tile, blocks, false, false)

// Which capabilities have which; the executor of tests/simt/, which is none, has both.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 750  // also what the driver compiles for cards to come
FAST_MATMUL(64, fp16, Fp16, 3)
FAST_MATMUL(128, fp16, Fp16, 1)
#endif
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
FAST_MATMUL(64, bf16, Bf16, 3)
FAST_MATMUL(128, bf16, Bf16, 1)
#endif

}  // namespace kernels::cuda
