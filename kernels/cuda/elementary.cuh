// exp, log and tanh of docs/numerics.md section 2, and what stands on them in section 5.
#pragma once

#include "cpu/math_constants.h"
#include "cuda/types.h"

namespace kernels::cuda {

// Scalars: device code cannot read an array of the host.
constexpr float e0 = math::exp_poly[0], e1 = math::exp_poly[1], e2 = math::exp_poly[2], e3 = math::exp_poly[3],
                e4 = math::exp_poly[4];
constexpr float l0 = math::log_poly[0], l1 = math::log_poly[1], l2 = math::log_poly[2];

__device__ inline float infinity() { return __uint_as_float(0x7f800000u); }
__device__ inline float nan() { return __uint_as_float(0x7fc00000u); }

// max of section 1.
__device__ inline float larger(float a, float b) { return a > b ? a : b; }

// Of numbers, ordered as their magnitudes are.
__device__ inline uint32_t magnitude_bits(float x) { return __float_as_uint(x) & 0x7fffffffu; }

// p = exp(x - n ln 2) - 1; the integer n stands in the low bits of t.
struct Reduced {
  float t, p;
};

__device__ inline Reduced reduce(float x) {
  const float t = __fmaf_rn(x, math::log2_e, math::round_magic);
  const float minus_n = math::round_magic - t;
  float r = __fmaf_rn(minus_n, math::ln2_high, x);
  r = __fmaf_rn(minus_n, math::ln2_low, r);
  const float q = __fmaf_rn(__fmaf_rn(__fmaf_rn(__fmaf_rn(e4, r, e3), r, e2), r, e1), r, e0);
  return {t, __fmaf_rn(r * r, q, r)};
}

__device__ inline float exp(float x) {
  const Reduced reduced = reduce(x);
  float y = __uint_as_float(__float_as_uint(1.0f + reduced.p) + (__float_as_uint(reduced.t) << 23));
  y = x < math::exp_lowest ? 0.0f : y;
  return x <= math::exp_highest ? y : x + infinity();
}

__device__ inline float tanh(float x) {
  const uint32_t sign = __float_as_uint(x) & 0x80000000u;
  const float magnitude = __uint_as_float(__float_as_uint(x) ^ sign);
  const float a = magnitude > math::tanh_saturation ? math::tanh_saturation : magnitude;
  const Reduced reduced = reduce(a + a);
  const float power = __uint_as_float((__float_as_uint(reduced.t) << 23) + 0x3f800000u);
  const float h = __fmaf_rn(reduced.p, power, power - 1.0f);
  return __uint_as_float(__float_as_uint(h / (h + 2.0f)) | sign);
}

__device__ inline float log(float x) {
  const bool denormal = x < math::smallest_normal;
  const uint32_t bits = __float_as_uint(denormal ? x * 0x1p23f : x);
  const int32_t k = static_cast<int32_t>(bits - static_cast<uint32_t>(math::sqrt_half_bits)) >> 23;
  const float f = __uint_as_float(bits - (static_cast<uint32_t>(k) << 23)) - 1.0f;
  const float d = static_cast<float>(k + (denormal ? -23 : 0));
  const float s = f / (2.0f + f);
  const float z = s * s;
  const float r = __fmaf_rn(__fmaf_rn(l2, z, l1), z, l0) * z;
  const float h = (0.5f * f) * f;
  const float w = __fmaf_rn(s, h + r, d * math::ln2_low);
  float y = __fmaf_rn(d, math::ln2_high, f - (h - w));
  y = x == 0.0f ? -infinity() : y;
  y = x == infinity() ? x : y;
  return x >= 0.0f ? y : nan();
}

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + exp(-x)); }

// The hyperbolic tangent inside gelu_new.
__device__ inline float gelu_tanh(float x) {
  return tanh((x * __fmaf_rn(x * x, 0.044715f, 1.0f)) * 0.7978845608028654f);
}

__device__ inline float gelu(float x) { return (0.5f * x) * (1.0f + gelu_tanh(x)); }

// Its derivative.
__device__ inline float gelu_slope(float x) {
  const float t = gelu_tanh(x);
  const float h = 0.5f * x;
  const float q = __fmaf_rn(x * x, 0.134145f, 1.0f) * 0.7978845608028654f;
  const float u = __fmaf_rn(-t, t, 1.0f);
  return __fmaf_rn(h * u, q, __fmaf_rn(0.5f, t, 0.5f));
}

}  // namespace kernels::cuda
