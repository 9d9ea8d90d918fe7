// Vectors as int8 digits and a scale (docs/numerics.md section 9): one thread's share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "cpu/layers.h"
#include "cpu/math_constants.h"
#include "cpu/rows.h"
#include "kernels/ops.h"

namespace kernels {

// What vectors with the amax of the lanes are multiplied by, and their scales.
template <class V>
struct Int8Scale {
  explicit Int8Scale(V amax) {
    const V levels = V::broadcast(127), least = V::broadcast(0x1p-100f), zero = V::zero();
    const V largest = V::broadcast(std::numeric_limits<float>::max());
    const V nan = V::broadcast(std::numeric_limits<float>::quiet_NaN());
    inverse = select(amax < least, zero, levels / amax);
    scale = select(amax < least, zero, select(amax <= largest, amax / levels, nan));
  }

  V inverse, scale;
};

template <class V>
V magnitude(V x) {
  return x ^ (x & V::broadcast(-0.0f));
}

// The digits of x / scale. Adding round_magic rounds to an integer, whose byte is the lowest of the sum.
template <class V, class P>
void put_digits(V x, int8_t* q, int8_t* low, P part) {
  const V magic = V::broadcast(math::round_magic);
  const V rounded = x + magic;
  rounded.store_low_bytes(q, part);
  if (low) ((x - (rounded - magic)) * V::broadcast(254) + magic).store_low_bytes(low, part);
}

template <class V>
void quantise_rows(const Quantise& op, Range rows) {
  for (size_t row = rows.begin; row < rows.end; ++row) {
    const size_t first = row * op.row;
    V amax = V::zero();
    for_each_vector<V>(first, first + op.columns,
                       [&](size_t i, auto part) { amax = max_bits(amax, magnitude(V::load(op.x + i, part))); });
    const Int8Scale<V> by(highest_bits(amax));
    by.scale.store(op.scales + row, Part{1});
    for_each_vector<V>(first, first + op.columns, [&](size_t i, auto part) {
      put_digits(V::load(op.x + i, part) * by.inverse, op.q + i, op.low ? op.low + i : nullptr, part);
    });
  }
}

// f(j, part, first row, rows) for vectors of columns, a few rows at a time: the matrix is read as it lies in memory,
// and what belongs to a column is fetched once for those rows.
template <class V, class F>
void for_each_vector_of_rows(size_t rows, Range columns, F f) {
  constexpr size_t group = 8;
  for (size_t row = 0; row < rows; row += group) {
    const size_t count = rows - row < group ? rows - row : group;
    for_each_vector<V>(columns.begin, columns.end, [&](size_t j, auto part) { f(j, part, row, count); });
  }
}

// The scales hold amax until the digits are made.
template <class V>
void quantise_columns(const Quantise& op, Range columns) {
  constexpr size_t ahead = 256;  // more streams of rows than a processor notices by itself
  const auto x = [&op](size_t row, size_t j, auto part) {
    const float* from = op.x + row * op.row + j;
    __builtin_prefetch(from + ahead);
    const V v = V::load(from, part);
    return op.row_factors ? V::broadcast(op.row_factors[row]) * v : v;
  };
  for_each_vector<V>(columns.begin, columns.end, [&](size_t j, auto part) { V::zero().store(op.scales + j, part); });
  for_each_vector_of_rows<V>(op.rows, columns, [&](size_t j, auto part, size_t row, size_t count) {
    V amax = V::load(op.scales + j, part);
    for (size_t i = 0; i < count; ++i) amax = max_bits(amax, magnitude(x(row + i, j, part)));
    amax.store(op.scales + j, part);
  });
  for_each_vector_of_rows<V>(op.rows, columns, [&](size_t j, auto part, size_t row, size_t count) {
    const V inverse = Int8Scale<V>(V::load(op.scales + j, part)).inverse;
    for (size_t i = row; i < row + count; ++i) {
      const size_t at = i * op.row + j;
      put_digits(x(i, j, part) * inverse, op.q + at, op.low ? op.low + at : nullptr, part);
    }
  });
  for_each_vector<V>(columns.begin, columns.end, [&](size_t j, auto part) {
    Int8Scale<V>(V::load(op.scales + j, part)).scale.store(op.scales + j, part);
  });
}

}  // namespace kernels
