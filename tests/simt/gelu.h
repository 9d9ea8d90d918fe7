// GELU and its derivative (docs/numerics.md section 5) in binary64: what kernels and stand-ins are compared with.
#pragma once

#include <cmath>

namespace simt {

inline double gelu_tanh(double x) { return std::tanh((x + 0.044715 * x * x * x) * 0.7978845608028654); }
inline double gelu(double x) { return x / 2 * (1 + gelu_tanh(x)); }
inline double gelu_slope(double x) {
  const double t = gelu_tanh(x);
  return (1 + t) / 2 + x / 2 * (1 - t * t) * (1 + 0.134145 * x * x) * 0.7978845608028654;
}

}  // namespace simt
