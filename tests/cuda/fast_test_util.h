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

// The element and the sum of its terms' magnitudes.
struct OracleSum {
  double value = 0, magnitudes = 0;
  void add(double term) {
    value += term;
    magnitudes += std::abs(term);
  }
};

// Each addition may err by one unit in the last place of fp32 (2^-23) of what was summed so far: tensor cores may
// truncate, and may add in any order. Besides the k terms there are at most two more.
inline void expect_near_sums(const Matmul& op, const Doubles& a, const Doubles& b, const Values& c0, const Values& c,
                             const std::string& what) {
  for (size_t m = 0; m < op.m; ++m) {
    for (size_t n = 0; n < op.n; ++n) {
      const size_t at = m * op.ldc + n;
      OracleSum sum;
      for (size_t k = 0; k < op.k; ++k) sum.add(a[m * op.a_row + k * op.a_col] * b[k * op.b_row + n * op.b_col]);
      if (op.bias) sum.add(static_cast<double>(op.bias[n]));
      if (op.residual) sum.add(static_cast<double>(op.residual == op.c ? c0[at] : op.residual[at]));
      if (op.accumulate) sum.add(static_cast<double>(c0[at]));
      ASSERT_NEAR(static_cast<double>(c[at]), sum.value,
                  static_cast<double>(op.k + 2) * 0x1p-23 * sum.magnitudes + 0x1p-140)
          << what << ", element " << m << ", " << n;
    }
  }
}

}  // namespace kernels::cuda::test
