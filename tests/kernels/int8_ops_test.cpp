// The operations of exact-int8 give the reference's bits on every path, at every thread count, over random odd shapes;
// and the reference gives what docs/numerics.md section 9 says in directed cases.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "ops_test_util.h"

namespace kernels {
namespace {

using Digits = std::vector<int8_t>;
using Values = std::vector<float>;
using test::Engine;
using test::engines;

class Int8Random {
 public:
  explicit Int8Random(uint32_t seed) : engine_(seed) {}

  size_t between(size_t low, size_t high) { return std::uniform_int_distribution<size_t>(low, high)(engine_); }

  // Normal values of a size of their own for each vector, with zeros of both signs and tiny ones.
  Values values(size_t count) {
    Values x(count);
    for (float& v : x) {
      v = normal_(engine_);
      if (engine_() % 32 == 0) v = engine_() % 2 ? 0.0f : -0.0f;
      if (engine_() % 32 == 0) v *= 0x1p-140f;
    }
    return x;
  }

  Digits digits(size_t count) {
    Digits x(count);
    for (int8_t& v : x) v = static_cast<int8_t>(engine_() % 255 - 127);
    return x;
  }

 private:
  std::mt19937 engine_;
  std::normal_distribution<float> normal_;
};

struct Quantised {
  Digits q, low;
  Values scales;
  bool operator==(const Quantised& other) const {
    return q == other.q && low == other.low && scales.size() == other.scales.size() &&
           std::memcmp(scales.data(), other.scales.data(), 4 * scales.size()) == 0;
  }
};

enum class Along { rows, columns };

constexpr int8_t no_digit = -128;  // what was not written

// A row begins where x has it, which may be beyond the last one's columns.
Quantised quantise(Ops& ops, Along along, size_t rows, size_t columns, const Values& x, const Values& factors = {},
                   bool two_digits = true) {
  Quantised r{Digits(x.size(), no_digit), Digits(two_digits ? x.size() : 0, no_digit),
              Values(along == Along::rows ? rows : columns, -1)};
  Quantise op{.rows = rows,
              .columns = columns,
              .row = x.size() / rows,
              .x = x.data(),
              .q = r.q.data(),
              .scales = r.scales.data()};
  if (two_digits) op.low = r.low.data();
  if (!factors.empty()) op.row_factors = factors.data();
  along == Along::rows ? ops.quantise_rows(op) : ops.quantise_columns(op);
  return r;
}

TEST(Int8Ops, QuantiseRandomShapes) {
  Int8Random random(1);
  const auto reference = make_reference_ops();
  for (int i = 0; i < 60; ++i) {
    const size_t rows = random.between(1, 40), columns = random.between(1, i < 40 ? 80 : 700);
    const size_t row = columns + (i % 4 == 0 ? 0 : random.between(1, 20));
    Values x = random.values(rows * row);
    const Values factors = i % 2 ? random.values(rows) : Values();
    for (size_t j = 0; j < columns; ++j) x[random.between(0, rows - 1) * row + j] *= 0x1p-90f;
    for (size_t j = 0; j < x.size(); ++j)
      if (j % row >= columns) x[j] = std::numeric_limits<float>::quiet_NaN();
    for (const Along along : {Along::rows, Along::columns}) {
      const Values& used = along == Along::rows ? Values() : factors;
      const Quantised expected = quantise(*reference, along, rows, columns, x, used, i % 3 != 0);
      for (size_t j = 0; j < x.size(); ++j) EXPECT_EQ(expected.q[j] == no_digit, j % row >= columns) << j;
      for (const Engine& engine : engines()) {
        EXPECT_EQ(quantise(*engine.ops, along, rows, columns, x, used, i % 3 != 0), expected)
            << engine.name << ": " << rows << " x " << columns << (along == Along::rows ? " rows" : " columns");
      }
    }
  }
}

// A vector quantised as a row and as a column by every engine, the reference among them.
void expect_digits(const Values& x, const Digits& q, const Digits& low, float scale) {
  for (const auto& [name, ops] : engines()) {
    for (const Along along : {Along::rows, Along::columns}) {
      const bool row = along == Along::rows;
      const Quantised got = quantise(*ops, along, row ? 1 : x.size(), row ? x.size() : 1, x);
      EXPECT_EQ(got.q, q) << name;
      if (!low.empty()) {
        EXPECT_EQ(got.low, low) << name;
      }
      EXPECT_EQ(got.scales[0], scale) << name;
    }
  }
}

TEST(Int8Ops, QuantiseRoundsTiesToEven) {
  expect_digits({127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f, -126.5f, 0},
                {127, 0, 2, 2, 0, -2, -2, 126, -126, 0}, {0, 127, -127, 127, -127, 127, -127, 127, -127, 0}, 1);
}

TEST(Int8Ops, QuantiseReachesBothEnds) {
  const float largest = std::numeric_limits<float>::max();
  expect_digits({largest, -largest, 0}, {127, -127, 0}, {}, largest / 127);
  expect_digits({-3, 3, 3, -3, 3}, {-127, 127, 127, -127, 127}, {}, 3.0f / 127);
}

TEST(Int8Ops, QuantiseOfTinyVectorsIsZero) {
  const float least = 0x1p-100f, below = std::nextafter(least, 0.0f);
  expect_digits({below, -below, 0x1p-149f}, {0, 0, 0}, {0, 0, 0}, 0);
  expect_digits({0, -0.0f}, {0, 0}, {0, 0}, 0);
  expect_digits({0, least, -least / 2}, {0, 127, -64}, {}, least / 127);
}

TEST(Int8Ops, VectorsThatAreNotFiniteHaveTheScaleNan) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const float bad : {inf, -inf, nan, -nan}) {
    for (size_t at = 0; at < 20; ++at) {
      Values x(3 * 20, 1);
      x[20 + at] = bad;
      for (const auto& [name, ops] : engines()) {
        const Quantised rows = quantise(*ops, Along::rows, 3, 20, x);
        EXPECT_TRUE(rows.scales[0] == 1.0f / 127 && std::isnan(rows.scales[1]) && rows.scales[2] == 1.0f / 127);
        const Quantised columns = quantise(*ops, Along::columns, 3, 20, x);
        for (size_t j = 0; j < 20; ++j) EXPECT_EQ(std::isnan(columns.scales[j]), j == at) << name;
      }
    }
  }
}

struct Product {
  size_t m, n, k;
  bool a_transposed = false, b_transposed = false, two_digits = false;
  size_t epilogue = 0;
};

void check_product(Int8Random& random, const Product& shape) {
  const size_t m = shape.m, n = shape.n, k = shape.k, epilogue = shape.epilogue;
  const bool a_transposed = shape.a_transposed, b_transposed = shape.b_transposed, two_digits = shape.two_digits;
  const size_t lda = (a_transposed ? m : k) + random.between(0, 3), ldb = (b_transposed ? k : n) + random.between(0, 3);
  const size_t ldc = n + random.between(0, 3);
  const Digits a = random.digits(lda * (a_transposed ? k : m)), low = random.digits(a.size());
  const Digits b = random.digits(ldb * (b_transposed ? n : k));
  const Values c0 = random.values(m * ldc), bias = random.values(n), residual = random.values(m * ldc);
  const Values a_scales = random.values(m), b_scales = random.values(n);
  const auto compute = [&](Ops& ops) {
    Values c = c0;
    Int8Matmul op{.m = m, .n = n, .k = k, .a = a.data(), .b = b.data(), .c = c.data(), .ldc = ldc};
    op.a_row = a_transposed ? 1 : lda, op.a_col = a_transposed ? lda : 1;
    op.b_row = b_transposed ? 1 : ldb, op.b_col = b_transposed ? ldb : 1;
    if (two_digits) op.a_low = low.data();
    if (epilogue != 1) op.a_scales = a_scales.data();
    if (epilogue != 2) op.b_scales = b_scales.data();
    if (epilogue == 2 || epilogue == 3) op.bias = bias.data();
    if (epilogue == 3) op.residual = residual.data();
    if (epilogue == 4) op.residual = c.data();
    if (epilogue == 1) op.accumulate = true;
    ops.int8_matmul(op);
    return c;
  };
  const Values expected = compute(*make_reference_ops());
  for (const Engine& engine : engines()) {
    const Values c = compute(*engine.ops);
    EXPECT_EQ(std::memcmp(c.data(), expected.data(), 4 * c.size()), 0)
        << engine.name << ": " << m << " x " << n << " x " << k << ", a " << a_transposed << ", b " << b_transposed
        << ", two digits " << two_digits << ", epilogue " << epilogue;
  }
}

TEST(Int8Ops, ProductRandomShapes) {
  Int8Random random(2);
  for (size_t i = 0; i < 120; ++i) {
    check_product(random, {random.between(1, 70), random.between(1, 90), random.between(1, 150), (i & 1) != 0,
                           (i & 2) != 0, (i & 4) != 0, random.between(0, 4)});
  }
}

TEST(Int8Ops, ProductBeyondBlocksAndSlices) {
  Int8Random random(3);
  for (size_t i = 0; i < 4; ++i) {
    const bool a = (i & 1) != 0, b = (i & 2) != 0;
    check_product(random, {17, 35, 1023 + i, a, b, true, 0});
    check_product(random, {5, 33, 2600, a, b, i == 1, 1});
    check_product(random, {530, 17, 70, a, b, false, 3});
    check_product(random, {9, 1100, 37, a, b, i == 2, 0});
  }
  check_product(random, {3, 3, 0, false, false, true, 3});
}

TEST(Int8Ops, TheLargestSumsAreExact) {
  for (const int8_t sign : {1, -1}) {
    const Digits a(int8_terms, 127), b(int8_terms, static_cast<int8_t>(127 * sign));
    for (const Engine& engine : engines()) {
      float c = 0;
      engine.ops->int8_matmul({.m = 1,
                               .n = 1,
                               .k = int8_terms,
                               .a = a.data(),
                               .a_row = int8_terms,
                               .b = b.data(),
                               .b_row = 1,
                               .b_col = int8_terms,
                               .c = &c,
                               .ldc = 1});
      EXPECT_EQ(c, static_cast<float>(127 * 127 * int64_t{int8_terms} * sign)) << engine.name;
    }
  }
  EXPECT_LT(127 * 127 * int64_t{int8_terms}, int64_t{1} << 31);
  EXPECT_GE(127 * 127 * int64_t{int8_terms + 1}, int64_t{1} << 31);
}

// The product said once more, in the test's own words.
TEST(Int8Ops, ProductFollowsTheDefinition) {
  const Digits a = {127, -3, 50}, low = {-100, 7, 90}, b = {2, 4, -127};
  const float s_a = 0.37f, s_b = 1.9f, bias = -3.25f, residual = 11;
  const float high = 2 * 127 - 3 * 4 - 50 * 127, second = -200 + 28 - 90 * 127;
  const float expected = ((std::fma(second, 1.0f / 254, high) * s_a) * s_b + bias) + residual;
  const auto reference = make_reference_ops();
  float c = 5;
  reference->int8_matmul({.m = 1,
                          .n = 1,
                          .k = 3,
                          .a = a.data(),
                          .a_low = low.data(),
                          .a_row = 3,
                          .a_scales = &s_a,
                          .b = b.data(),
                          .b_row = 1,
                          .b_col = 3,
                          .b_scales = &s_b,
                          .c = &c,
                          .ldc = 1,
                          .bias = &bias,
                          .residual = &residual});
  EXPECT_EQ(c, expected);
}

}  // namespace
}  // namespace kernels
