// Two arithmetics of int8_matmul.cu: threads that multiply by themselves.
#pragma once

#include "cuda/digits.cuh"

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

  // The place of unit i of four, which are those of one line or of four.
  template <bool along_terms>
  __device__ static Place nth(const Place& first, uint32_t i) {
    return along_terms ? Place{first.line, first.unit + i} : Place{first.line + i, first.unit};
  }

  __device__ static uint32_t row(uint32_t i) { return line_of_thread<tile, thread_m>(threadIdx.x / across, i); }
  __device__ static uint32_t column(uint32_t j) { return line_of_thread<tile, thread_n>(threadIdx.x % across, j); }
};

// Four products at once. The compiler's own __dp4a does not link in NVRTC 11.8.
struct Dp4a : OwnSums {
  using Sum = int32_t;
  static constexpr uint32_t terms_of_sum = 0;  // any number
  struct Slice {
    alignas(16) int32_t x[units * slice_row(tile)];
  };

  template <bool along_terms>
  __device__ static void put(Slice& slice, const Place& at, const Units& values) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const Place to = nth<along_terms>(at, i);
      slice.x[to.unit * slice_row(tile) + to.line] = static_cast<int32_t>(values.x[i]);
    }
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

// fp32 on whole numbers.
struct Fp32 : OwnSums {
  using Sum = float;
  static constexpr uint32_t terms_of_sum = 1024;  // 127 * 127 * 1024 < 2^24: fp32 holds such a sum exactly
  struct Slice {
    alignas(16) float x[depth * slice_row(tile)];
  };

  template <bool along_terms>
  __device__ static void put(Slice& slice, const Place& at, const Units& values) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const Place to = nth<along_terms>(at, i);
#pragma unroll
      for (uint32_t t = 0; t < 4; ++t) {
        const auto digit = static_cast<int8_t>(byte_of(values.x[i], t));
        slice.x[(4 * to.unit + t) * slice_row(tile) + to.line] = static_cast<float>(digit);
      }
    }
  }

  __device__ static void multiply(float (&sums)[thread_m][thread_n], const Slice& a, const Slice& b) {
    multiply_slices<depth, tile, tile>(sums, a.x, b.x);
  }
};

}  // namespace kernels::cuda
