// The inner loop of a matrix product: a tile of c in registers.
#pragma once

#include <cstddef>

#include "cpu/kernel_table.h"
#include "cpu/vector_parts.h"

namespace kernels {

// What a tile multiplies: rows of a, and a packed panel of b (k by k, V::tile_vectors vectors each).
struct Operands {
  const float* a;
  size_t a_row, a_col;
  const float* b;
  size_t k;
};

// acc[i][j] goes on through all k: fma(a(i, k), b(k, j), acc[i][j]). A vector type may specialise this.
template <class V, int rows, Tuning tuning>
struct Tile {
  static inline __attribute__((always_inline)) void multiply(V (&acc)[rows][V::tile_vectors], const Operands& o) {
    if (o.a_row == 1 && o.a_col == rows) {  // packed: the addresses of a row's terms are constants
      loop(acc, o, 1, rows);
    } else {
      loop(acc, o, o.a_row, o.a_col);
    }
  }

 private:
  static constexpr size_t width = V::tile_vectors * V::width;
  // The panel comes from the second-level cache, which a busy hyper-thread shares: it is asked for so many terms early.
  static constexpr size_t ahead = 12;

  static inline __attribute__((always_inline)) void loop(V (&acc)[rows][V::tile_vectors], const Operands& o,
                                                         size_t a_row, size_t a_col) {
    const float* a = o.a;
    const float* b = o.b;
    for (size_t k = o.k; k > 0; --k) {
      if constexpr (tuning == Tuning::intel) {
#pragma GCC unroll 4
        for (size_t line = 0; line < width; line += cache_line) __builtin_prefetch(b + ahead * width + line);
      }
      V row[V::tile_vectors];
#pragma GCC unroll 4
      for (int j = 0; j < V::tile_vectors; ++j) row[j] = V::load(b + j * V::width);
#pragma GCC unroll 16
      for (int i = 0; i < rows; ++i) {
        if constexpr (tuning == Tuning::intel && requires { V::fma_broadcast(acc[i][0], a, row[0]); }) {
          if (i % 2 == 1) {
#pragma GCC unroll 4
            for (int j = 0; j < V::tile_vectors; ++j) V::fma_broadcast(acc[i][j], a + i * a_row, row[j]);
            continue;
          }
        }
        const V x = V::broadcast(a[i * a_row]);
#pragma GCC unroll 4
        for (int j = 0; j < V::tile_vectors; ++j) acc[i][j] = fma(x, row[j], acc[i][j]);
      }
      a += a_col;
      b += width;
    }
  }
};

}  // namespace kernels
