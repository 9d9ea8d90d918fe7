// docs/numerics.md section 9, line by line.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "kernels/ops.h"

namespace kernels::reference {

// Quantises the vector x(0) … x(n - 1): put(i, q, low) receives its digits; returns its scale.
template <class X, class Put>
float quantise(size_t n, X x, Put put) {
  uint32_t bits = 0;
  for (size_t i = 0; i < n; ++i) bits = std::max(bits, std::bit_cast<uint32_t>(x(i)) & 0x7fffffff);
  const float amax = std::bit_cast<float>(bits);
  const bool usable = std::isfinite(amax) && amax >= 0x1p-100f;
  for (size_t i = 0; i < n; ++i) {
    if (!usable) {
      put(i, 0, 0);
      continue;
    }
    const float inv = 127.0f / amax;
    const float p = x(i) * inv;
    const float q = std::nearbyintf(p);
    const float low = std::nearbyintf((p - q) * 254.0f);
    put(i, static_cast<int8_t>(q), static_cast<int8_t>(low));
  }
  if (!std::isfinite(amax)) return std::numeric_limits<float>::quiet_NaN();
  return usable ? amax / 127.0f : 0.0f;
}

// The sum over k of digits(m, k) * b(k, n) with digits = a or a_low.
inline int32_t integer_sum(const Int8Matmul& p, const int8_t* digits, size_t m, size_t n) {
  int32_t sum = 0;
  for (size_t k = 0; k < p.k; ++k)
    sum += int32_t{digits[m * p.a_row + k * p.a_col]} * int32_t{p.b[k * p.b_row + n * p.b_col]};
  return sum;
}

// Element (m, n) of the product before bias and residual.
inline float dequantised(const Int8Matmul& p, size_t m, size_t n) {
  float y = static_cast<float>(integer_sum(p, p.a, m, n));
  if (p.a_low) y = std::fma(static_cast<float>(integer_sum(p, p.a_low, m, n)), 1.0f / 254.0f, y);
  if (p.a_scales) y = y * p.a_scales[m];
  if (p.b_scales) y = y * p.b_scales[n];
  return y;
}

}  // namespace kernels::reference
