// Two arithmetics of int8_matmul.cu: threads that multiply by themselves.
#pragma once

#include "cuda/units.cuh"

namespace kernels::cuda {

// A thread has 8 x 4 sums. A slice is laid out as tile.cuh says.
struct OwnSums {
  static constexpr uint32_t tile = 64, threads = line_threads * tile, depth = 32, thread_m = 8, thread_n = 4;
  static constexpr uint32_t units = depth / 4, groups = tile * units / 4 / threads, across = tile / thread_n;
  static_assert(groups == 1);

  template <bool along_terms>
  __device__ static Place place(uint32_t) {
    return along_terms ? Place{threadIdx.x / (units / 4), threadIdx.x % (units / 4) * 4}
                       : Place{threadIdx.x % (tile / 4) * 4, threadIdx.x / (tile / 4)};
  }

  __device__ static uint32_t row(uint32_t i) { return line_of_thread<tile, thread_m>(thread_place<across>().row, i); }
  __device__ static uint32_t column(uint32_t j) {
    return line_of_thread<tile, thread_n>(thread_place<across>().column, j);
  }

  const ThreadPlace at = kept(thread_place<across>());
};

// Four products at once. The compiler's own __dp4a does not link in NVRTC 11.8.
struct Dp4a : OwnSums {
  using Sum = int32_t;
  static constexpr uint32_t terms_of_sum = 0;  // any number
  struct Slice {
    alignas(16) int32_t x[units * slice_row(tile)];
  };

  // Of a unit in a slice.
  __device__ static uint32_t number_at(const Place& at) { return at.unit * slice_row(tile) + at.line; }

  // From a unit's number on: four units of its line, or that of each of four lines.
  template <bool along_terms>
  __device__ static void put(Slice& slice, uint32_t first, const Units& values) {
    int32_t* const to = slice.x + first;
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) to[i * (along_terms ? slice_row(tile) : 1)] = static_cast<int32_t>(values.x[i]);
  }

  __device__ explicit Dp4a(const Slices<Dp4a>& slices) : slices_(slices) {}

  // The thread's sums go on through slices.a[which] and slices.b[which].
  __device__ void multiply(int32_t (&sums)[thread_m][thread_n], uint32_t which) const {
    const Slice &a = slices_.a[which], &b = slices_.b[which];
#pragma unroll
    for (uint32_t u = 0; u < units; ++u) {
      int32_t x[thread_m], y[thread_n];
      load_lines<tile>(x, a.x + u * slice_row(tile), at.row);
      load_lines<tile>(y, b.x + u * slice_row(tile), at.column);
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

  const Slices<Dp4a>& slices_;
};

// fp32 on whole numbers.
struct Fp32 : OwnSums {
  using Sum = float;
  static constexpr uint32_t terms_of_sum = 1024;  // 127 * 127 * 1024 < 2^24: fp32 holds such a sum exactly
  struct Slice {
    alignas(16) float x[depth * slice_row(tile)];
  };

  // Of a unit's first term in a slice.
  __device__ static uint32_t number_at(const Place& at) { return 4 * at.unit * slice_row(tile) + at.line; }

  // From a unit's number on: four units of its line, or that of each of four lines.
  template <bool along_terms>
  __device__ static void put(Slice& slice, uint32_t first, const Units& values) {
    float* const to = slice.x + first;
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
#pragma unroll
      for (uint32_t t = 0; t < 4; ++t) {
        const auto digit = static_cast<int8_t>(byte_of(values.x[i], t));
        to[i * (along_terms ? 4 * slice_row(tile) : 1) + t * slice_row(tile)] = static_cast<float>(digit);
      }
    }
  }

  __device__ explicit Fp32(const Slices<Fp32>& slices) : slices_(slices) {}

  // The thread's sums go on through slices.a[which] and slices.b[which].
  __device__ void multiply(float (&sums)[thread_m][thread_n], uint32_t which) const {
    multiply_slices<depth, tile, tile>(sums, at, slices_.a[which].x, slices_.b[which].x);
  }

  const Slices<Fp32>& slices_;
};

}  // namespace kernels::cuda
