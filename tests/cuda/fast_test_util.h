// What the tests of `fast` share: its formats, and how far from an oracle its results may be.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "cuda_host/half_precision.h"
#include "cuda_test_util.h"
#include "nearest_half.h"

namespace kernels::cuda::test {

constexpr HalfPrecision both_halves[] = {HalfPrecision::bf16, HalfPrecision::fp16};

using Doubles = std::vector<double>;

inline Doubles rounded(const Values& x, HalfPrecision half) {
  Doubles y;
  for (const float v : x)
    y.push_back(simt::nearest_half(v, half == HalfPrecision::bf16 ? simt::bf16_format : simt::fp16_format));
  return y;
}

// The largest relative error of rounding to the format, where that is not denormal: 2^-9 or 2^-12.
inline double half_error(HalfPrecision half) { return half == HalfPrecision::bf16 ? 0x1p-9 : 0x1p-12; }

// The relative L2 norm of the difference.
template <class A, class B>
double relative_error(const A& x, const B& of) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double right = static_cast<double>(of[i]), difference = static_cast<double>(x[i]) - right;
    error += difference * difference;
    norm += right * right;
  }
  return norm == 0 && error == 0 ? 0 : std::sqrt(error / norm);
}

}  // namespace kernels::cuda::test
