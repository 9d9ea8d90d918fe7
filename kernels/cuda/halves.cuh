// The 16-bit numbers of `fast` (docs/numerics.md section 10): how two fp32 become the halves of a word, rounded to
// nearest even, and fp32 again; the product of such words by a warp, mma.cuh's registers of 16 terms.
#pragma once

#include "cuda/mma.cuh"

namespace kernels::cuda {

// From compute capability 8.0 on.
struct Bf16 {
  __device__ static uint32_t pack(float low, float high) {
#if defined(__CUDA_ARCH__)
    uint32_t word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
#else
    return rounded(low) | rounded(high) << 16;
#endif
  }

  __device__ static float value(uint16_t half) { return __uint_as_float(uint32_t{half} << 16); }

  __device__ static void multiply(float& sum0, float& sum1, float& sum2, float& sum3, uint32_t a0, uint32_t a1,
                                  uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    mma_m16n8k16_bf16(sum0, sum1, sum2, sum3, a0, a1, a2, a3, b0, b1);
  }

#if !defined(__CUDA_ARCH__)
 private:
  static uint32_t rounded(float x) {
    const uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;  // NaN
    return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
  }
#endif
};

// 7.5, which multiplies 8 terms at once.
struct Fp16 {
  __device__ static uint32_t pack(float low, float high) {
#if defined(__CUDA_ARCH__)
    uint32_t word;
    asm("{ .reg .b16 low, high; cvt.rn.f16.f32 low, %1; cvt.rn.f16.f32 high, %2; mov.b32 %0, {low, high}; }"
        : "=r"(word)
        : "f"(low), "f"(high));
    return word;
#else
    return rounded(low) | rounded(high) << 16;
#endif
  }

  __device__ static float value(uint16_t half) {
#if defined(__CUDA_ARCH__)
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(half));
    return x;
#else
    const uint32_t sign = uint32_t{half} >> 15 << 31, rest = half & 0x7fffu;
    if (rest >= 0x7c00) return __uint_as_float(sign | 0x7f800000u | rest << 13);  // infinity and NaN
    const float magnitude =
        rest < 0x400 ? static_cast<float>(rest) * 0x1p-24f : __uint_as_float((rest << 13) + 0x38000000u);
    return __uint_as_float(sign | __float_as_uint(magnitude));
#endif
  }

  __device__ static void multiply(float& sum0, float& sum1, float& sum2, float& sum3, uint32_t a0, uint32_t a1,
                                  uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    mma_m16n8k8_fp16(sum0, sum1, sum2, sum3, a0, a1, b0);
    mma_m16n8k8_fp16(sum0, sum1, sum2, sum3, a2, a3, b1);
  }

#if !defined(__CUDA_ARCH__)
 private:
  static uint32_t rounded(float x) {
    const uint32_t sign = __float_as_uint(x) >> 16 & 0x8000u, bits = __float_as_uint(x) & 0x7fffffffu;
    if (bits > 0x7f800000u) return 0x7fff;          // NaN
    if (bits >= 0x477ff000u) return sign | 0x7c00;  // 65,520 and beyond: infinity
    if (bits < 0x38800000u) {                       // below 2^-14: whole multiples of 2^-24, as 0.5's neighbours are
      const uint32_t half = __float_as_uint(__uint_as_float(bits) + 0.5f);
      return sign | (half - 0x3f000000u);
    }
    return sign | (bits + 0xfffu + (bits >> 13 & 1) - 0x38000000u) >> 13;  // another bias of the exponent: 15, not 127
  }
#endif
};

}  // namespace kernels::cuda
