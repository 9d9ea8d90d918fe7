// What flash_attention.cu multiplies: tokens of a head in shared memory, and mma.cuh's fragments of them in registers.
#pragma once

#include "cuda/async_copy.cuh"
#include "cuda/attention_heads.cuh"
#include "cuda/numbers.cuh"
#include "cuda/reduce.cuh"

namespace kernels::cuda {

constexpr uint32_t fragment_rows = 16;  // of mma.sync

// Places of a lane in the fragments.
__device__ inline uint32_t lane_row() { return lane() / 4; }
__device__ inline uint32_t lane_pair() { return lane() % 4; }

// A head's tokens in memory; what is outside is 0.
struct Source {
  const uint16_t* first;
  uint32_t row, context, head_size;
  bool aligned;  // groups of 8 dimensions may be moved at once, and the head has whole ones

  // Two neighbours, the first the lower.
  __device__ uint32_t pair(uint32_t token, uint32_t dimension) const {
    const uint16_t* const from = first + uint64_t{token} * row + dimension;
    const uint32_t inside = token < context ? left(dimension, head_size) : 0;
    return (inside >= 1 ? from[0] : 0u) | (inside >= 2 ? uint32_t{from[1]} << 16 : 0u);
  }
};

__device__ inline Source source_of(const AttentionShape& p, const void* tensor, const Tokens& tokens) {
  return {static_cast<const uint16_t*>(tensor) + tokens.first, static_cast<uint32_t>(tokens.row), p.context,
          p.head_size, p.aligned != 0};
}

// Tokens in shared memory, groups of 8 dimensions in words of two. The groups of a token are exchanged by its number,
// so that the same group of eight tokens, which a warp reads at once, lies in different banks.
template <uint32_t width>
struct Tile {
  uint32_t* first;

  __device__ uint32_t* group(uint32_t token, uint32_t number) const {
    return first + token * (width / 2) + (number ^ token % 8) * 4;
  }
};

template <uint32_t width>
constexpr uint32_t token_bytes = 2 * width;  // in a tile, which is aligned to as many

// Where group number ^ with of a token lies whose group `number` lies at `group`.
__device__ inline SharedAddress exchanged(SharedAddress group, uint32_t with) {
#if defined(__CUDA_ARCH__)
  return group ^ 16 * with;
#else
  return reinterpret_cast<SharedAddress>(reinterpret_cast<uintptr_t>(group) ^ 16 * with);
#endif
}

__device__ inline void copy_group(Fp16, uint32_t* to, const uint16_t* from, bool inside) {
  using Words = Four<uint32_t>;
  *reinterpret_cast<Words*>(to) = inside ? *reinterpret_cast<const Words*>(from) : Words{};
}
__device__ inline void copy_group(Bf16, uint32_t* to, const uint16_t* from, bool inside) {
  begin_copy_16(to, from, inside);
}
__device__ inline void wait_for_groups(Fp16) {}
__device__ inline void wait_for_groups(Bf16) { wait_for_copies(); }

// Begins to copy tokens from `token` on, of one head in one tensor or two. wait_for_groups() and a barrier must follow.
template <class Half, uint32_t tokens, uint32_t width, uint32_t count>
__device__ void begin_copies(const Tile<width> (&to)[count], const Source (&from)[count], uint32_t token) {
  constexpr uint32_t groups = width / 8, at_once = flash_threads / groups;
  static_assert(tokens % at_once == 0, "every thread has whole groups");
  const uint32_t number = threadIdx.x % groups, dimension = number * 8, first = threadIdx.x / groups;
  if (from[0].aligned) {
    const uint16_t* group[count];
#pragma unroll
    for (uint32_t n = 0; n < count; ++n) group[n] = from[n].first + uint64_t{token + first} * from[n].row + dimension;
#pragma unroll
    for (uint32_t i = first; i < first + tokens; i += at_once) {
      const bool inside = token + i < from[0].context && dimension < from[0].head_size;
#pragma unroll
      for (uint32_t n = 0; n < count; ++n) {
        copy_group(Half{}, to[n].group(i, number), group[n], inside);
        group[n] += at_once * from[n].row;
      }
    }
    return;
  }
#pragma unroll 1
  for (uint32_t i = first; i < tokens; i += at_once) {
#pragma unroll
    for (uint32_t n = 0; n < count; ++n) {
#pragma unroll 1
      for (uint32_t pair = 0; pair < 4; ++pair)
        to[n].group(i, number)[pair] = from[n].pair(token + i, dimension + 2 * pair);
    }
  }
}

// 16 rows of so many terms, in the fragments of a.
template <uint32_t terms>
struct Rows {
  uint32_t a[terms / 16][4];
};

// 16 tokens of a tile, from `token` on.
template <uint32_t width>
__device__ void load_rows(Rows<width>& rows, Tile<width> from, uint32_t token) {
#pragma unroll
  for (uint32_t s = 0; s < width / 16; ++s)
    load_matrices(rows.a[s], shared_address(from.group(token + lane() % 16, 2 * s + lane() / 16)));
}

// Sums of a product as the rows of the next: their columns become its terms.
template <class Half, uint32_t columns>
__device__ void to_rows(Rows<columns>& rows, const float (&sums)[columns / 8][4]) {
#pragma unroll
  for (uint32_t s = 0; s < columns / 16; ++s) {
#pragma unroll
    for (uint32_t i = 0; i < 4; ++i) {
      const float* pair = sums[2 * s + i / 2] + i % 2 * 2;
      rows.a[s][i] = Half::pack(pair[0], pair[1]);
    }
  }
}

// Of 16 terms: columns 8 * j … 8 * j + 15 of each set of rows. b: two registers of each eight columns.
template <class Half, uint32_t sets, uint32_t columns, uint32_t terms>
__device__ void multiply_columns(float (&sums)[sets][columns / 8][4], const Rows<terms> (&rows)[sets], uint32_t s,
                                 uint32_t j, const uint32_t (&b)[4]) {
#pragma unroll
  for (uint32_t set = 0; set < sets; ++set) {
    const uint32_t(&a)[4] = rows[set].a[s];
#pragma unroll
    for (uint32_t i = 0; i < 2; ++i) {
      float(&sum)[4] = sums[set][j + i];
      Half::multiply(sum[0], sum[1], sum[2], sum[3], a[0], a[1], a[2], a[3], b[2 * i], b[2 * i + 1]);
    }
  }
}

// sums += the rows by the tile's tokens, of which each is a column; the terms are dimensions.
template <class Half, uint32_t tokens, uint32_t sets, uint32_t width>
__device__ void multiply_by_tokens(float (&sums)[sets][tokens / 8][4], const Rows<width> (&rows)[sets],
                                   Tile<width> tile) {
  const SharedAddress first = shared_address(tile.group(lane() / 16 * 8 + lane() % 8, lane() / 8 % 2));
#pragma unroll
  for (uint32_t s = 0; s < width / 16; ++s) {
    const SharedAddress terms = exchanged(first, 2 * s);
#pragma unroll
    for (uint32_t j = 0; j < tokens / 8; j += 2) {
      uint32_t b[4];
      load_matrices(b, terms + 8 * j * token_bytes<width>);
      multiply_columns<Half, sets, tokens, width>(sums, rows, s, j, b);
    }
  }
}

// sums += the rows by the tile's dimensions from group `first` on, of which each is a column; the terms are tokens.
template <class Half, uint32_t columns, uint32_t sets, uint32_t tokens, uint32_t width>
__device__ void multiply_by_dimensions(float (&sums)[sets][columns / 8][4], const Rows<tokens> (&rows)[sets],
                                       Tile<width> tile, uint32_t first) {
  const SharedAddress column = shared_address(tile.group(lane() % 16, first + lane() / 16));
#pragma unroll
  for (uint32_t s = 0; s < tokens / 16; ++s) {
#pragma unroll
    for (uint32_t j = 0; j < columns / 8; j += 2) {
      uint32_t b[4];
      load_transposed_matrices(b, exchanged(column, j) + 16 * s * token_bytes<width>);
      multiply_columns<Half, sets, columns, tokens>(sums, rows, s, j, b);
    }
  }
}

}  // namespace kernels::cuda
