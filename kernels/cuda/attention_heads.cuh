// Which tokens of which head a block of attention.cu or flash_attention.cu has, and where they lie.
#pragma once

#include "cuda/attention_args.h"
#include "cuda/shapes.h"

namespace kernels::cuda {

// The tile of tokens and the slice of dimensions of this block, and its head in all sequences.
struct TokenTile {
  uint32_t token, column, head;
};

__device__ inline TokenTile tile_of_block(const AttentionShape& p, uint32_t width) {
  const uint32_t number = blockIdx.x;
  return {number % p.tiles * attention_tile, number / p.tiles % p.slices * width, number / p.tiles / p.slices};
}

// A head's tokens in one of the tensors.
struct Tokens {
  uint64_t first, row;  // offset of the first token, and from one token to the next
};

struct Head {
  Tokens q, k, v, out;
  uint64_t query;  // number of the first query's row_max
};

// Query head `head` of sequence `sequence`.
__device__ inline Head head_of(const AttentionShape& p, uint32_t sequence, uint32_t head) {
  const uint64_t row = uint64_t{p.heads + 2 * p.kv_heads} * p.head_size, out_row = uint64_t{p.heads} * p.head_size;
  const uint64_t first = uint64_t{sequence} * p.context, kv_head = head / (p.heads / p.kv_heads);
  return {{first * row + uint64_t{head} * p.head_size, row},
          {first * row + (p.heads + kv_head) * p.head_size, row},
          {first * row + (p.heads + p.kv_heads + kv_head) * p.head_size, row},
          {first * out_row + uint64_t{head} * p.head_size, out_row},
          (uint64_t{sequence} * p.heads + head) * p.context};
}

}  // namespace kernels::cuda
