// One thread's product of int8 matrices (docs/numerics.md section 9). Sums of integers may be taken in any order, so
// slices of k are as long as the first-level cache likes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/ahead.h"
#include "cpu/int8_dot.h"
#include "cpu/vector_parts.h"
#include "kernels/ops.h"

namespace kernels {

// Both operands are packed alike: strips of V::width vectors, in each the vectors' units of 32 bits (Dot::group terms)
// side by side, unit by unit. Missing vectors and terms are 0.
template <class V, class Dot>
class Int8Gemm {
  static constexpr size_t width = V::width, group = Dot::group;
  static constexpr size_t tile_m = V::width == 16 ? 8 : 4, tile_n = 2 * width, tile = tile_m * tile_n;
  static constexpr size_t depth = 256;  // units of a slice
  static constexpr size_t block = 512;  // rows and columns of c at a time

 public:
  static constexpr size_t row_unit = 16, column_unit = 2 * width;  // a share of c is best a multiple of these
  // Floats of scratch that one thread needs.
  static constexpr size_t buffer_floats = 2 * block * depth + block + 2 * block * block;

  Int8Gemm(const Int8Matmul& product, float* buffer)
      : p_(product),
        packed_a_(buffer),
        packed_b_(packed_a_ + block * depth),
        start_(packed_b_ + block * depth),
        sums_(start_ + block),
        low_sums_(sums_ + block * block) {}

  void run() {
    for (size_t m = 0; m < p_.m; m += block) {
      for (size_t n = 0; n < p_.n; n += block) {
        m0_ = m, n0_ = n;
        rows_ = smaller(block, p_.m - m), columns_ = smaller(block, p_.n - n);
        sum_block();
      }
    }
  }

 private:
  // Vectors of an operand: terms `term` apart, vectors `vector` apart, one of the two being 1.
  struct Vectors {
    const int8_t* first;
    size_t vector, term, count;
  };
  struct Slice {
    size_t begin, terms, units;
    bool first, last;
  };

  static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

  void sum_block() {
    const size_t slices = p_.k == 0 ? 1 : (p_.k + depth * group - 1) / (depth * group);
    const size_t length = ((p_.k + slices - 1) / slices + group - 1) / group * group;
    for (size_t i = 0; i < slices; ++i) {
      Slice s;
      s.begin = i * length, s.terms = smaller(length, p_.k - s.begin);
      s.units = (s.terms + group - 1) / group;
      s.first = i == 0, s.last = i == slices - 1;
      pack<Dot::flips>({p_.b + s.begin * p_.b_row + n0_ * p_.b_col, p_.b_col, p_.b_row, columns_}, s, packed_b_);
      if (p_.a_low) add_slice(p_.a_low, s, low_sums_, false);
      add_slice(p_.a, s, sums_, s.last);
    }
  }

  // Adds the slice's products to the sums of all tiles; finishes these where `ends`.
  void add_slice(const int8_t* a, const Slice& s, float* sums, bool ends) {
    pack<0>({a + s.begin * p_.a_col + m0_ * p_.a_row, p_.a_row, p_.a_col, rows_}, s, packed_a_);
    if constexpr (Dot::flips != 0) correct_flips(s);
    const bool keeps = !(s.first && ends);  // else one tile's memory serves for all
    for (size_t n = 0; n < columns_; n += tile_n) {
      for (size_t m = 0; m < rows_; m += tile_m) {
        const size_t at = (n / tile_n * (block / tile_m) + m / tile_m) * tile;
        float* tile_sums = keeps ? sums + at : sums;
        if (ends) ask_for(m, n);
        multiply(s, m, n, tile_sums);
        if (ends) finish(tile_sums, p_.a_low ? low_sums_ + at : nullptr, m, n);
      }
    }
  }

  // The first unsigned factor being 128 too large, 128 times the sum of each row of a is taken off at the start.
  void correct_flips(const Slice& s) {
    for (size_t m = 0; m < rows_; m += width) {
      const float* a = packed_a_ + m * s.units;
      V sum = V::zero();
      for (size_t u = 0; u < s.units; ++u) {
        sum = Dot::add_products(sum, V::load(a + u * width), V::broadcast_bits(0x01010101));
      }
      const V negative = add_bits(sum ^ V::broadcast_bits(-1), V::broadcast_bits(1));
      shift_bits_left<7>(negative).store(start_ + m);
    }
  }

  void multiply(const Slice& s, size_t m, size_t n, float* sums) {
    const float* a = packed_a_ + m / width * width * s.units + m % width;
    const float* b = packed_b_ + n * s.units;
    const float* next_b = b + width * s.units;
    V acc[tile_m][2];
#pragma GCC unroll 8
    for (size_t i = 0; i < tile_m; ++i) {
      const V start = Dot::flips ? broadcast_unit(start_ + m + i) : V::zero();
      for (size_t j = 0; j < 2; ++j) {
        acc[i][j] = s.first ? start : add_bits(start, V::load(sums + (2 * i + j) * width));
      }
    }
    for (size_t u = s.units; u > 0; --u) {
      const V row[2] = {V::load(b), V::load(next_b)};
#pragma GCC unroll 8
      for (size_t i = 0; i < tile_m; ++i) {
        const V x = broadcast_unit(a + i);
        acc[i][0] = Dot::add_products(acc[i][0], x, row[0]);
        acc[i][1] = Dot::add_products(acc[i][1], x, row[1]);
      }
      a += width, b += width, next_b += width;
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < tile_m; ++i) {
      for (size_t j = 0; j < 2; ++j) acc[i][j].store(sums + (2 * i + j) * width);
    }
  }

  // c is far away: a tile of it is asked for before its sums are made.
  inline __attribute__((always_inline)) void ask_for(size_t m, size_t n) const {
    const float* c = p_.c + (m0_ + m) * p_.ldc + n0_ + n;
    for (size_t i = 0; i < smaller(tile_m, rows_ - m); ++i, c += p_.ldc) ask_for_row<tile_n>(c);
  }

  void finish(const float* sums, const float* low, size_t m, size_t n) {
    const size_t rows = smaller(tile_m, rows_ - m);
    for (size_t i = 0; i < rows; ++i) {
      for (size_t j = 0; j < tile_n && n + j < columns_; j += width) {
        const float* low_at = low ? low + i * tile_n + j : nullptr;
        if (columns_ - n - j >= width) {
          finish_vector(sums + i * tile_n + j, low_at, m0_ + m + i, n0_ + n + j, Whole{});
        } else {
          finish_vector(sums + i * tile_n + j, low_at, m0_ + m + i, n0_ + n + j, Part{columns_ - n - j});
        }
      }
    }
  }

  template <class P>
  void finish_vector(const float* sum, const float* low, size_t m, size_t n, P part) {
    V y = to_float(V::load(sum));
    if (low) y = fma(to_float(V::load(low)), V::broadcast(1.0f / 254.0f), y);
    if (p_.a_scales) y = y * V::broadcast(p_.a_scales[m]);
    if (p_.b_scales) y = y * V::load(p_.b_scales + n, part);
    float* c = p_.c + m * p_.ldc + n;
    if (p_.accumulate) y = V::load(c, part) + y;
    if (p_.bias) y = y + V::load(p_.bias + n, part);
    if (p_.residual) y = y + V::load(p_.residual + m * p_.ldc + n, part);
    y.store(c, part);
  }

  static V broadcast_unit(const float* p) {
    int32_t bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    return V::broadcast_bits(bits);
  }

  // Terms of `from` within the slice; each byte with the bits of `flip` inverted.
  template <int flip>
  void pack(const Vectors& from, const Slice& s, float* to) {
    size_t whole_vectors = 0, whole_units = 0;
    if (from.term == 1) {
      whole_vectors = from.count / width * width, whole_units = s.terms / group / width * width;
      for (size_t v = 0; v < whole_vectors; v += width) {
        for (size_t u = 0; u < whole_units; u += width) {
          pack_square<flip>(from.first + v * from.vector + u * group, from.vector, to + v * s.units + u * width);
        }
      }
    } else if (from.vector == 1) {
      whole_vectors = from.count / 16 * 16, whole_units = s.terms / group;
      for (size_t u = 0; u < whole_units; ++u) {
        for (size_t v = 0; v < whole_vectors; v += 16) {
          float* strip = to + v * s.units + u * width;
          zip_units<V, Dot, flip>(from.first + u * group * from.term + v, from.term, strip, s.units * width);
        }
      }
    }
    const size_t vectors = (from.count + 2 * width - 1) / (2 * width) * (2 * width);
    if (whole_units < s.units) pack_slowly<flip>(from, s, {0, whole_vectors}, {whole_units, s.units}, to);
    pack_slowly<flip>(from, s, {whole_vectors, vectors}, {0, s.units}, to);
  }

  template <int flip>
  static void pack_square(const int8_t* from, size_t stride, float* to) {
    V square[width];
    for (size_t l = 0; l < width; ++l) {
      square[l] = Dot::load_units(from + l * stride);
      if (flip) square[l] = square[l] ^ V::broadcast_bits(static_cast<int32_t>(flip * 0x01010101u));
    }
    V::transpose(square);
    for (size_t l = 0; l < width; ++l) square[l].store(to + l * width);
  }

  struct Span {
    size_t begin, end;
  };

  template <int flip>
  static void pack_slowly(const Vectors& from, const Slice& s, Span vectors, Span units, float* to) {
    for (size_t v = vectors.begin; v < vectors.end; ++v) {
      float* strip = to + v / width * width * s.units + v % width;
      for (size_t u = units.begin; u < units.end; ++u) {
        typename Dot::Term unit[group] = {};
        for (size_t g = 0; g < group && v < from.count && u * group + g < s.terms; ++g) {
          unit[g] = static_cast<typename Dot::Term>(from.first[v * from.vector + (u * group + g) * from.term] ^ flip);
        }
        __builtin_memcpy(strip + u * width, unit, sizeof unit);
      }
    }
  }

  const Int8Matmul p_;
  float* const packed_a_;
  float* const packed_b_;
  float* const start_;     // (block) what a row's sums start from
  float* const sums_;      // tiles
  float* const low_sums_;  // tiles of the second digit
  size_t m0_ = 0, n0_ = 0, rows_ = 0, columns_ = 0;
};

}  // namespace kernels
