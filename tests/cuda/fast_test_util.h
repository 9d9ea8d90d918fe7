// What the tests of `fast` share: its formats, how far from an oracle its results may be, and its products.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "cuda_host/half_precision.h"
#include "cuda_test_util.h"
#include "gelu.h"
#include "nearest_half.h"

namespace kernels::cuda::test {

constexpr HalfPrecision both_halves[] = {HalfPrecision::bf16, HalfPrecision::fp16};

using Doubles = std::vector<double>;
using Halves = std::vector<uint16_t>;

inline const simt::HalfFormat& format_of(HalfPrecision half) {
  return half == HalfPrecision::bf16 ? simt::bf16_format : simt::fp16_format;
}

// The nearest halves of x, and the numbers of halves.
inline Halves halves_of(const Values& x, HalfPrecision half) {
  Halves y;
  for (const float v : x)
    y.push_back(simt::half_bits(std::isnan(v) ? NAN : simt::nearest_half(v, format_of(half)), format_of(half)));
  return y;
}
inline Values numbers_of(const Halves& x, HalfPrecision half) {
  Values y;
  for (const uint16_t bits : x) y.push_back(static_cast<float>(simt::half_number(bits, format_of(half))));
  return y;
}
inline Values rounded(const Values& x, HalfPrecision half) { return numbers_of(halves_of(x, half), half); }

// NaN in both formats: what an operation leaves out is seen.
inline Halves poisoned_halves(size_t count) { return Halves(count, 0x7fff); }

// Of rounding to the format, where that is not denormal: half of the largest relative error, and about the mean.
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

// What follows a product; from `halves` on c is of halves.
enum class Epilogue {
  none,
  bias,
  bias_and_residual,
  residual_in_place,
  accumulate,
  halves,
  halves_and_bias,
  gelu,
  slope
};
constexpr Epilogue all_epilogues[] = {
    Epilogue::none,       Epilogue::bias,   Epilogue::bias_and_residual, Epilogue::residual_in_place,
    Epilogue::accumulate, Epilogue::halves, Epilogue::halves_and_bias,   Epilogue::gelu,
    Epilogue::slope};

struct ProductCase {
  size_t m, n, k;
  bool a_transposed, b_transposed;
  Epilogue epilogue;
  size_t padding = 0;  // of lines, so that they are aligned or not

  size_t lda() const { return (a_transposed ? m : k) + padding; }
  size_t ldb() const { return (b_transposed ? k : n) + padding; }
  size_t ldc() const { return n + padding; }
  bool of_halves() const { return epilogue >= Epilogue::halves; }
  bool has_bias() const {
    return epilogue == Epilogue::bias || epilogue == Epilogue::bias_and_residual ||
           epilogue == Epilogue::halves_and_bias || epilogue == Epilogue::gelu;
  }
  std::string text() const {
    return std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k) +
           (a_transposed ? ", a transposed" : "") + (b_transposed ? ", b transposed" : "") + ", epilogue " +
           std::to_string(static_cast<int>(epilogue)) + ", padding " + std::to_string(padding);
  }
};

// A product of random halves with the arrays that it reads and writes.
struct FastProduct {
  FastProduct(Random& random, const ProductCase& of, HalfPrecision precision)
      : shape(of),
        half(precision),
        a(halves_of(random.values(of.lda() * (of.a_transposed ? of.k : of.m)), half)),
        b(halves_of(random.values(of.ldb() * (of.b_transposed ? of.n : of.k)), half)),
        bias(rounded(random.values(of.n), half)),
        bias_halves(halves_of(bias, half)),
        residual(random.values(of.m * of.ldc())),
        gelu_input(halves_of(random.values(of.m * of.ldc()), half)),
        before_gelu(poisoned_halves(of.m * of.ldc())),
        c(of.epilogue == Epilogue::residual_in_place || of.epilogue == Epilogue::accumulate
              ? random.values(of.m * of.ldc())
              : poisoned(of.m * of.ldc())),
        c_halves(poisoned_halves(of.m * of.ldc())),
        c_before(c) {}

  // The operation on what put(array) gives for each array that it has; arrays are as long as they are here.
  template <class Put>
  FastMatmul operation(const Put& put) {
    FastMatmul op{.m = shape.m, .n = shape.n, .k = shape.k, .a = put(a), .b = put(b), .ldc = shape.ldc()};
    op.a_row = shape.a_transposed ? 1 : shape.lda(), op.a_col = shape.a_transposed ? shape.lda() : 1;
    op.b_row = shape.b_transposed ? 1 : shape.ldb(), op.b_col = shape.b_transposed ? shape.ldb() : 1;
    if (shape.of_halves()) {
      op.c = put(c_halves);
      if (shape.has_bias()) op.bias = put(bias_halves);
      if (shape.epilogue == Epilogue::gelu) op.before_gelu = put(before_gelu);
      if (shape.epilogue == Epilogue::slope) op.gelu_input = put(gelu_input);
    } else {
      float* const result = put(c);
      op.c = result;
      if (shape.has_bias()) op.bias = put(bias);
      if (shape.epilogue == Epilogue::bias_and_residual) op.residual = put(residual);
      if (shape.epilogue == Epilogue::residual_in_place) op.residual = result;
      op.accumulate = shape.epilogue == Epilogue::accumulate;
    }
    return op;
  }

  const ProductCase shape;
  const HalfPrecision half;
  Halves a, b;
  Values bias;
  Halves bias_halves;
  Values residual;
  Halves gelu_input, before_gelu;
  Values c;
  Halves c_halves;
  const Values c_before;
};

// Against sums in binary64. Each addition may err by one unit in the last place of fp32 (2^-23) of what was summed so
// far: tensor cores may truncate, and may add in any order. Besides the k terms there are at most two more. Then GELU,
// which is nowhere steeper than 1.13, perhaps of a rounded sum, and the rounding to halves.
inline void expect_right(const FastProduct& product, const std::string& what) {
  const auto& [m, n, k, a_transposed, b_transposed, epilogue, padding] = product.shape;
  const Values a = numbers_of(product.a, product.half), b = numbers_of(product.b, product.half);
  const Values c = product.shape.of_halves() ? numbers_of(product.c_halves, product.half) : product.c;
  const Values before = numbers_of(product.before_gelu, product.half);
  const Values slopes_at = numbers_of(product.gelu_input, product.half);
  const double rounding = product.shape.of_halves() ? 2 * half_error(product.half) : 0;
  const double tiny = std::ldexp(1.0, format_of(product.half).lowest);
  for (size_t row = 0; row < m; ++row) {
    for (size_t column = 0; column < product.shape.ldc(); ++column) {
      const size_t at = row * product.shape.ldc() + column;
      if (column >= n) {  // what lies between the rows
        ASSERT_TRUE(std::isnan(product.c_before[at]) ? std::isnan(c[at]) : c[at] == product.c_before[at]) << what;
        continue;
      }
      double value = 0, magnitudes = 0;
      const auto add = [&](double term) { value += term, magnitudes += std::abs(term); };
      for (size_t t = 0; t < k; ++t) {
        const float x = a[a_transposed ? t * product.shape.lda() + row : row * product.shape.lda() + t];
        const float y = b[b_transposed ? column * product.shape.ldb() + t : t * product.shape.ldb() + column];
        add(static_cast<double>(x) * static_cast<double>(y));
      }
      if (product.shape.has_bias()) add(static_cast<double>(product.bias[column]));
      if (epilogue == Epilogue::bias_and_residual) add(static_cast<double>(product.residual[at]));
      if (epilogue == Epilogue::residual_in_place || epilogue == Epilogue::accumulate)
        add(static_cast<double>(product.c_before[at]));
      double error = static_cast<double>(k + 2) * 0x1p-23 * magnitudes + 0x1p-140;
      if (epilogue == Epilogue::gelu) {
        ASSERT_NEAR(static_cast<double>(before[at]), value, error + rounding * std::abs(value) + tiny) << what;
        error = 1.13 * (error + rounding * std::abs(value));
        value = simt::gelu(value);
      }
      if (epilogue == Epilogue::slope) {
        const double slope = simt::gelu_slope(static_cast<double>(slopes_at[at]));
        error = 1.13 * (error + rounding * std::abs(value));
        value *= slope;
      }
      if (product.shape.of_halves() && std::abs(value) + error > format_of(product.half).largest) {
        ASSERT_GE(static_cast<double>(std::abs(c[at])), std::abs(value) - error - rounding * std::abs(value)) << what;
        continue;
      }
      error += rounding * std::abs(value) + (product.shape.of_halves() ? tiny + 1e-6 : 0);
      ASSERT_NEAR(static_cast<double>(c[at]), value, error) << what << ", element " << row << ", " << column;
    }
  }
}

}  // namespace kernels::cuda::test
