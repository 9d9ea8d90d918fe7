// A card's own functions of fp32, ex2.approx and lg2.approx of the PTX ISA: within some 2^-22, and not the same on all
// cards. For `fast` alone; what the exact profiles have is in elementary.cuh.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

// 2^x; 0 below 2^-126.
__device__ inline float power_of_two(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return simt_power_of_two(x);
#endif
}

__device__ inline float binary_logarithm(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("lg2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return simt_binary_logarithm(x);
#endif
}

}  // namespace kernels::cuda
