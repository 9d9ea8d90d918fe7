// exp, log and tanh of docs/numerics.md section 2, on the lanes of a vector V.
#pragma once

#include <limits>

#include "cpu/math_constants.h"

namespace kernels {

// p = exp(x - n ln 2) - 1; the integer n stands in the low bits of t.
template <class V>
struct Reduced {
  V t, p;
};

template <class V>
Reduced<V> reduce(V x) {
  const V t = fma(x, V::broadcast(math::log2_e), V::broadcast(math::round_magic));
  const V minus_n = V::broadcast(math::round_magic) - t;
  V r = fma(minus_n, V::broadcast(math::ln2_high), x);
  r = fma(minus_n, V::broadcast(math::ln2_low), r);
  V q = V::broadcast(math::exp_poly[4]);
  for (int i = 3; i >= 0; --i) q = fma(q, r, V::broadcast(math::exp_poly[i]));
  return {t, fma(r * r, q, r)};
}

template <class V>
V exp(V x) {
  const auto [t, p] = reduce(x);
  V y = add_bits(V::broadcast(1) + p, shift_bits_left<23>(t));
  y = select(x < V::broadcast(math::exp_lowest), V::zero(), y);
  const V overflow = x + V::broadcast(std::numeric_limits<float>::infinity());
  return select(x <= V::broadcast(math::exp_highest), y, overflow);
}

template <class V>
V tanh(V x) {
  const V sign = x & V::broadcast(-0.0f);
  const V a = min(V::broadcast(math::tanh_saturation), x ^ sign);  // NaN stays
  const auto [t, p] = reduce(a + a);
  const V power = add_bits(shift_bits_left<23>(t), V::broadcast(1));
  const V h = fma(p, power, power - V::broadcast(1));
  return h / (h + V::broadcast(2)) | sign;
}

template <class V>
float scalar_fma(float a, float b, float c) {
  return first(fma(V::broadcast(a), V::broadcast(b), V::broadcast(c)));
}

// One value: a row of logits needs one logarithm.
template <class V>
float log(float x) {
  const bool denormal = x < math::smallest_normal;
  const float v = denormal ? x * 0x1p23f : x;
  const uint32_t bits = __builtin_bit_cast(uint32_t, v);  // unsigned: the subtractions wrap
  const int32_t k = static_cast<int32_t>(bits - static_cast<uint32_t>(math::sqrt_half_bits)) >> 23;
  const float f = __builtin_bit_cast(float, bits - (static_cast<uint32_t>(k) << 23)) - 1;
  const float d = static_cast<float>(k + (denormal ? -23 : 0));
  const float s = f / (2 + f);
  const float z = s * s;
  const float r = scalar_fma<V>(scalar_fma<V>(math::log_poly[2], z, math::log_poly[1]), z, math::log_poly[0]) * z;
  const float h = 0.5f * f * f;
  const float w = scalar_fma<V>(s, h + r, d * math::ln2_low);
  const float y = scalar_fma<V>(d, math::ln2_high, f - (h - w));
  if (x == 0) return -std::numeric_limits<float>::infinity();
  if (x == std::numeric_limits<float>::infinity()) return x;
  return x >= 0 ? y : std::numeric_limits<float>::quiet_NaN();
}

}  // namespace kernels
