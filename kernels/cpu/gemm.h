// One thread's matrix product: packed panels, a register tile, chunks of 2048 (docs/numerics.md section 3).
#pragma once

#include <cstddef>

#include "cpu/ahead.h"
#include "cpu/tile.h"
#include "cpu/vector_parts.h"
#include "kernels/ops.h"

namespace kernels {

// What of a product belongs to masked keys and is left out. A row of a or c is a query (or, for before_row, a key),
// row 0 having the number `first` on the other axis.
enum class Skip {
  nothing,
  columns_after_row,  // c(m, n) is not needed where n > first + m
  terms_after_row,    // a(m, k) = 0 where k > first + m
  terms_before_row    // a(m, k) = 0 where first + k < m
};

struct GemmOptions {
  bool extends_chain = false;  // c holds the chain of a chunk and goes on through k, which must not leave the chunk
  Skip skip = Skip::nothing;   // as far as whole register tiles allow
  size_t first = 0;
};

template <class V, Tuning tuning = Tuning::intel>
class Gemm {
 public:
  static constexpr size_t tile_m = V::tile_rows, tile_n = V::tile_vectors * V::width;

 private:
  // A block of B (depth x columns_block) stays in the second-level cache, where one of A (rows_block x depth) passes
  // by.
  static constexpr size_t chunk = 2048, depth = 768, columns_block = 384;
  static constexpr size_t rows_block = 56 / tile_m * tile_m, sums_block = 20 * rows_block;
  static constexpr size_t pack_group = 8;    // terms packed at a time, so that they are read as they lie in memory
  static constexpr size_t few_columns = 96;  // for which packing a would cost more than it saves
  static constexpr size_t strip = 32;        // terms of a tile, between which memory is asked for

 public:
  // Floats of scratch that one thread needs.
  static constexpr size_t buffer_floats = rows_block * depth + columns_block * depth + 2 * sums_block * columns_block;

  Gemm(const Matmul& product, float* buffer, const GemmOptions& options = {})
      : p_(product),
        options_(options),
        packed_a_(buffer),
        packed_b_(packed_a_ + rows_block * depth),
        chain_(packed_b_ + columns_block * depth),
        total_(chain_ + sums_block * columns_block) {}

  void run() {
    for (size_t m = 0; m < p_.m; m += sums_block) {
      for (size_t n = 0; n < p_.n; n += columns_block) {
        m0_ = m, n0_ = n;
        rows_ = smaller(sums_block, p_.m - m), columns_ = smaller(columns_block, p_.n - n);
        sum_block();
      }
    }
  }

 private:
  // Terms [begin, end) of the contraction, all in one chunk.
  struct Slice {
    size_t begin, end;
    bool starts_chunk, ends_chunk, first_chunk, last_chunk;
  };

  static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

  // Rows [m0, m0 + rows) by columns [n0, n0 + columns) of c, over all of k.
  void sum_block() {
    size_t begin = 0;
    do {  // an empty contraction is one empty slice
      const size_t chunk_end = smaller(p_.k, begin + chunk);
      const size_t slices = (chunk_end - begin + depth - 1) / depth;
      const size_t length = slices ? (chunk_end - begin + slices - 1) / slices : 0;
      const size_t chunk_begin = begin;
      do {
        Slice s;
        s.begin = begin, s.end = smaller(chunk_end, begin + length);
        s.starts_chunk = begin == chunk_begin, s.ends_chunk = s.end == chunk_end;
        s.first_chunk = chunk_begin == 0, s.last_chunk = chunk_end == p_.k;
        slice(s);
        begin = s.end;
      } while (begin < chunk_end);
    } while (begin < p_.k);
  }

  void slice(const Slice& s) {
    pack_b(s);
    const size_t k = s.end - s.begin;
    for (size_t m = 0; m < rows_; m += rows_block) {
      const size_t rows = smaller(rows_block, rows_ - m);
      const float* a = p_.a + (m0_ + m) * p_.a_row + s.begin * p_.a_col;
      const bool packs = columns_ > few_columns;
      if (packs) pack_a(a, rows, k);
      ahead_ = packs && k > 0 && m + rows < rows_ ? next_rows(a + rows * p_.a_row, rows_ - m - rows, k) : Ahead{};
      for (size_t n = 0; n < columns_; n += tile_n) {
        const float* b = packed_b_ + n * k;
        for (size_t i = 0; i < rows; i += tile_m) {
          const size_t tile_rows = smaller(tile_m, rows - i);
          Operands o = packs ? Operands{packed_a_ + i * k, 1, tile_rows, b, k}
                             : Operands{a + i * p_.a_row, p_.a_row, p_.a_col, b, k};
          if (options_.skip != Skip::nothing && !skip_masked(o, s, m0_ + m + i, tile_rows, n0_ + n)) continue;
          tile(s, o, m + i, n, tile_rows);
        }
      }
    }
  }

  // What pack_a() reads after a whole block of rows, which is multiplied first: at most `left` rows from `from` on.
  Ahead next_rows(const float* from, size_t left, size_t k) const {
    const size_t rows = smaller(rows_block, left), tiles = rows_block / tile_m * ((columns_ + tile_n - 1) / tile_n);
    const size_t calls = tiles * ((k + strip - 1) / strip);
    if (p_.a_col == 1) return {from, rows, k, p_.a_row, calls};
    if (p_.a_row == 1) return {from, k, rows, p_.a_col, calls};
    return {};
  }

  // b(k, n) of the slice as panels of tile_n columns, k by k; missing columns are 0.
  void pack_b(const Slice& s) {
    const size_t k = s.end - s.begin;
    const float* from = p_.b + s.begin * p_.b_row + n0_ * p_.b_col;
    size_t n = 0;
    if (p_.b_col == 1) {
      n = pack_rows(from, k);
    } else if (p_.b_row == 1) {
      for (; n + tile_n <= columns_; n += tile_n) {
        pack_transposed<far>(from + n * p_.b_col, p_.b_col, tile_n, k, packed_b_ + n * k);
      }
    }
    for (; n < columns_; n += tile_n) {
      const size_t columns = smaller(tile_n, columns_ - n);
      for (size_t i = 0; i < k; ++i) {
        float* to = packed_b_ + n * k + i * tile_n;
        for (size_t j = 0; j < columns; ++j) to[j] = from[i * p_.b_row + (n + j) * p_.b_col];
        for (size_t j = columns; j < tile_n; ++j) to[j] = 0;
      }
    }
  }

  // Whole panels of rows of b, a few rows at a time, so that they are read in the order in which they lie. Returns the
  // number of columns packed.
  size_t pack_rows(const float* from, size_t k) {
    const size_t columns = columns_ / tile_n * tile_n;
    for (size_t first = 0; first < k; first += pack_group) {
      const size_t end = smaller(k, first + pack_group);
      for (size_t n = 0; n < columns; n += tile_n) {
        for (size_t i = first; i < end; ++i) {
          float* to = packed_b_ + n * k + i * tile_n;
          __builtin_prefetch(from + (i + pack_group) * p_.b_row + n);
          for (size_t j = 0; j < tile_n; j += V::width) V::load(from + i * p_.b_row + n + j).store(to + j);
        }
      }
    }
    return columns;
  }

  // Lines of b come from memory, those of a have been asked for (next_rows()).
  static constexpr size_t far = 6, asked_for = 0;

  // `lines` lines of k terms, `stride` apart, as one panel, k by k: square by square, asking for those `ahead` squares
  // on.
  template <size_t ahead>
  static void pack_transposed(const float* from, size_t stride, size_t lines, size_t k, float* to) {
    constexpr size_t w = V::width;
    const size_t whole = k / w * w;
    for (size_t i = 0; i < whole; i += w) {
      for (size_t j = 0; j < lines; j += w) {
        const size_t count = smaller(w, lines - j);
        V square[w];
        for (size_t l = 0; ahead > 0 && l < count; ++l) __builtin_prefetch(from + (j + l) * stride + i + ahead * w);
        for (size_t l = 0; l < w; ++l) square[l] = l < count ? V::load(from + (j + l) * stride + i) : V::zero();
        V::transpose(square);
        for (size_t l = 0; l < w; ++l) {
          float* terms = to + (i + l) * lines + j;
          count == w ? square[l].store(terms) : square[l].store(terms, Part{count});
        }
      }
    }
    for (size_t i = whole; i < k; ++i) {
      for (size_t j = 0; j < lines; ++j) to[i * lines + j] = from[j * stride + i];
    }
  }

  // Rows of a as panels of tile_m rows, k by k.
  void pack_a(const float* from, size_t rows, size_t k) {
    if (p_.a_col == 1) {
      for (size_t m = 0; m < rows; m += tile_m) {
        pack_transposed<asked_for>(from + m * p_.a_row, p_.a_row, smaller(tile_m, rows - m), k, packed_a_ + m * k);
      }
      return;
    }
    for (size_t first = 0; first < k; first += pack_group) {
      const size_t end = smaller(k, first + pack_group);
      for (size_t m = 0; m < rows; m += tile_m) {
        const float* a = from + m * p_.a_row;
        float* to = packed_a_ + m * k;
        const size_t count = smaller(tile_m, rows - m);
        if (count == tile_m && p_.a_row == 1) {
          for (size_t i = first; i < end; ++i) {
            __builtin_prefetch(a + (i + 2 * pack_group) * p_.a_col);
            __builtin_prefetch(a + (i + 2 * pack_group) * p_.a_col + tile_m - 1);
            __builtin_memcpy(to + i * tile_m, a + i * p_.a_col, tile_m * sizeof(float));
          }
        } else {
          for (size_t i = first; i < end; ++i) {
            for (size_t r = 0; r < count; ++r) to[i * count + r] = a[r * p_.a_row + i * p_.a_col];
          }
        }
      }
    }
  }

  // Leaves masked terms of the tile of `rows` rows from m on out; false where the whole tile is masked.
  bool skip_masked(Operands& o, const Slice& s, size_t m, size_t rows, size_t n) const {
    const size_t first = options_.first, end = first + m + rows;
    switch (options_.skip) {
      case Skip::nothing:
        return true;
      case Skip::columns_after_row:
        return n < end;
      case Skip::terms_after_row:
        o.k = end <= s.begin ? 0 : smaller(o.k, end - s.begin);
        return true;
      case Skip::terms_before_row:
        const size_t terms = smaller(o.k, m > first + s.begin ? m - first - s.begin : 0);
        o.a += terms * o.a_col;
        o.b += terms * tile_n;
        o.k -= terms;
        return true;
    }
    return true;
  }

  // c's tile at (m, n) of the block.
  void tile(const Slice& s, const Operands& o, size_t m, size_t n, size_t rows) {
    if (columns_ - n >= tile_n) {
      switch_rows<V::tile_rows>(s, o, m, n, rows, [](size_t) { return Whole{}; });
    } else {
      switch_rows<V::tile_rows>(s, o, m, n, rows, [left = columns_ - n](size_t j) {
        return Part{left <= j ? 0 : smaller(left - j, V::width)};
      });
    }
  }

  template <int r, class Parts>
  void switch_rows(const Slice& s, const Operands& o, size_t m, size_t n, size_t rows, Parts parts) {
    if constexpr (r > 1) {
      if (rows < r) return switch_rows<r - 1>(s, o, m, n, rows, parts);
    }
    tile_of<r>(s, o, m, n, parts);
  }

  template <int r, class Parts>
  void tile_of(const Slice& s, const Operands& o, size_t m, size_t n, Parts parts) {
    // The tile's place in chain_ and total_, where tiles lie in the order of slice().
    const size_t sums = m / rows_block * rows_block * columns_block + n * rows_block + m % rows_block * tile_n;
    V acc[r][V::tile_vectors];
    start(acc, s, sums, m, n, parts);
    Operands part = o;
    size_t asked = 0;
    for (size_t k = 0; k < o.k; k += strip) {
      part.k = smaller(strip, o.k - k);
      if (asked < r) ask_for_tile_row(s, sums, m, n, asked++);  // all at once would hold up the tile's own operands
      ahead_.ask();
      Tile<V, r, tuning>::multiply(acc, part);
      part.a += strip * o.a_col, part.b += strip * tile_n;
    }
    finish(acc, s, sums, m, n, parts);
  }

  // Does f(x, i, j) for each vector of a tile, unrolled, so that the tile stays in registers.
  template <int r, class F>
  static inline __attribute__((always_inline)) void each(V (&acc)[r][V::tile_vectors], F f) {
#pragma GCC unroll 16
    for (int i = 0; i < r; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < V::tile_vectors; ++j) f(acc[i][j], i, j);
    }
  }

  // What the tile begins with.
  template <int r, class Parts>
  inline __attribute__((always_inline)) void start(V (&acc)[r][V::tile_vectors], const Slice& s, size_t sums, size_t m,
                                                   size_t n, Parts parts) const {
    if (!s.starts_chunk) {
      each(acc, [&](V& x, int i, int j) { x = V::load(chain_ + sums + place(i, j)); });
    } else if (options_.extends_chain) {
      each(acc, [&](V& x, int i, int j) { x = V::load(c(m + i, n + j * V::width), parts(j * V::width)); });
    } else {
      each(acc, [&](V& x, int, int) { x = V::zero(); });
    }
  }

  // Leaves the chain of a chunk for the next slice, the total for the next chunk, or the result.
  template <int r, class Parts>
  inline __attribute__((always_inline)) void finish(V (&acc)[r][V::tile_vectors], const Slice& s, size_t sums, size_t m,
                                                    size_t n, Parts parts) const {
    if (!s.ends_chunk) return each(acc, [&](V& x, int i, int j) { x.store(chain_ + sums + place(i, j)); });
    const auto part = [&](int j) { return parts(j * V::width); };
    const auto result = [&](int i, int j) { return c(m + i, n + j * V::width); };
    if (!options_.extends_chain) {
      if (s.first_chunk) {
        each(acc, [&](V& x, int, int) { x = V::zero() + x; });
      } else {
        each(acc, [&](V& x, int i, int j) { x = V::load(total_ + sums + place(i, j)) + x; });
      }
      if (!s.last_chunk) return each(acc, [&](V& x, int i, int j) { x.store(total_ + sums + place(i, j)); });
      if (p_.accumulate) each(acc, [&](V& x, int i, int j) { x = V::load(result(i, j), part(j)) + x; });
      if (p_.bias) each(acc, [&](V& x, int, int j) { x = x + V::load(p_.bias + n0_ + n + j * V::width, part(j)); });
      if (p_.residual) {
        const float* residual = p_.residual + (m0_ + m) * p_.ldc + n0_ + n;
        each(acc, [&](V& x, int i, int j) { x = x + V::load(residual + i * p_.ldc + j * V::width, part(j)); });
      }
    }
    each(acc, [&](V& x, int i, int j) { x.store(result(i, j), part(j)); });
  }

  static constexpr size_t place(int i, int j) { return (i * V::tile_vectors + j) * V::width; }

  // c and the sums of other slices are far away: a tile's row i is asked for while it is multiplied, and of sums that
  // it begins with those of the next tile.
  inline __attribute__((always_inline)) void ask_for_tile_row(const Slice& s, size_t sums, size_t m, size_t n,
                                                              size_t i) const {
    if (!s.starts_chunk) ask_for_row<tile_n>(chain_ + sums + tile_m * tile_n + i * tile_n);
    if (s.starts_chunk && !s.ends_chunk) ask_for_row<tile_n>(chain_ + sums + i * tile_n);
    if (!s.ends_chunk) return;
    if (!s.first_chunk || !s.last_chunk) ask_for_row<tile_n>(total_ + sums + i * tile_n);
    ask_for_row<tile_n>(c(m + i, n));
  }

  float* c(size_t m, size_t n) const { return p_.c + (m0_ + m) * p_.ldc + n0_ + n; }

  const Matmul p_;
  const GemmOptions options_;
  float* const packed_a_;
  float* const packed_b_;
  float* const chain_;  // tile by tile
  float* const total_;
  Ahead ahead_;
  size_t m0_ = 0, n0_ = 0, rows_ = 0, columns_ = 0;
};

}  // namespace kernels
