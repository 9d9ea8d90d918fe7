// The inner loop for processors without FMA: about four times faster than Portable's fma, which it falls back on.
#pragma once

#include "cpu/tile.h"
#include "cpu/vector_portable.h"

namespace kernels {

// A chain is kept in binary64, where the product is exact: chain = fp32(product + chain). Rounding the sum to binary64
// first does no harm but where it falls on the middle of two fp32 values, or where the result is denormal. Both are
// rare, so such sums are only noted, and the tile is done again from its start with the careful fma.
template <int rows, Tuning tuning>
struct Tile<Portable, rows, tuning> {
  static constexpr int vectors = Portable::tile_vectors, halves = 2 * vectors;
  using Doubles = Portable::Doubles;
  using Ints = Portable::Ints;

  static inline __attribute__((always_inline)) void multiply(Portable (&acc)[rows][vectors], const Operands& o) {
    Doubles chain[rows][halves];
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < vectors; ++j) {
        chain[i][2 * j] = Portable::low_half(acc[i][j].v);
        chain[i][2 * j + 1] = Portable::high_half(acc[i][j].v);
      }
    }
    if (!advance(chain, o)) return carefully(acc, o);
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < vectors; ++j) acc[i][j] = {Portable::narrow(chain[i][2 * j], chain[i][2 * j + 1])};
    }
  }

 private:
  // False where a sum was met that may have been rounded wrongly.
  static inline __attribute__((always_inline)) bool advance(Doubles (&chain)[rows][halves], const Operands& o) {
    const float* a = o.a;
    const float* b = o.b;
    Ints doubtful = {};
    for (size_t k = o.k; k > 0; --k) {
      Doubles row[halves];
#pragma GCC unroll 8
      for (int j = 0; j < halves; ++j) {
        Portable::Pair pair;
        __builtin_memcpy(&pair, b + ptrdiff_t{2} * j, sizeof pair);
        row[j] = __builtin_convertvector(pair, Doubles);
      }
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) {
        const double x = a[i * o.a_row];
#pragma GCC unroll 8
        for (int j = 0; j < halves; ++j) {
          const Doubles sum = Doubles{x, x} * row[j] + chain[i][j];
          doubtful |= doubt(sum);
          chain[i][j] = __builtin_convertvector(__builtin_convertvector(sum, Portable::Pair), Doubles);
        }
      }
      a += o.a_col;
      b += vectors * Portable::width;
    }
    return (doubtful[0] | doubtful[1] | doubtful[2] | doubtful[3]) == 0;
  }

  // Non-zero lanes where the 29 bits that fp32 lacks are exactly one half, or 0 < |sum| < 2^-126. One comparison does
  // both: the low words are moved so that one half becomes the least integer, the high words so that 1 … 2^-126 become
  // the least ones and 0 the greatest.
  static Ints doubt(Doubles sum) {
    constexpr int32_t least = INT32_MIN, tiny = 0x38100000;  // the high word of 2^-126
    const Ints part = (Ints)sum & Ints{0x1fffffff, INT32_MAX, 0x1fffffff, INT32_MAX};
    const Ints moved = (Ints)((Portable::Words)part + Portable::Words{0x70000000, INT32_MAX, 0x70000000, INT32_MAX});
    return Ints{least + 1, least + (tiny - 1), least + 1, least + (tiny - 1)} > moved;
  }

  static __attribute__((noinline)) void carefully(Portable (&acc)[rows][vectors], const Operands& o) {
    for (size_t k = 0; k < o.k; ++k) {
      for (int i = 0; i < rows; ++i) {
        const Portable x = Portable::broadcast(o.a[i * o.a_row + k * o.a_col]);
        for (int j = 0; j < vectors; ++j) {
          acc[i][j] = fma(x, Portable::load(o.b + (k * vectors + j) * Portable::width), acc[i][j]);
        }
      }
    }
  }
};

}  // namespace kernels
