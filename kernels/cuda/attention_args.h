// Arguments of kernels/cuda/attention.cu and flash_attention.cu; pointers are device pointers. void: fp32, of the
// latter halves.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

// What the kernels have in common. Blocks: one for each tile of tokens of each head of each sequence, and for each
// slice of the head's dimensions where one block is too narrow for them.
struct AttentionShape {
  const void* qkv;
  const float* row_max;      // backward only
  const float* inverse_sum;  // backward only
  uint32_t context, heads, kv_heads, head_size;
  uint32_t tiles;    // of tokens in a sequence
  uint32_t slices;   // of dimensions in a head
  float scale;       // 1 / sqrt(head_size)
  uint32_t aligned;  // groups of four neighbouring dimensions, of halves eight, may be moved at once
};
static_assert(sizeof(AttentionShape) == 56 && offsetof(AttentionShape, aligned) == 52);

// AttentionForward of kernels/ops.h.
struct AttentionForwardArgs {
  AttentionShape shape;
  void* out;
  float* row_max;
  float* inverse_sum;
};
static_assert(sizeof(AttentionForwardArgs) == 80 && offsetof(AttentionForwardArgs, inverse_sum) == 72);

// AttentionBackward of kernels/ops.h: one kernel for the queries' gradients, one for those of keys and values.
struct AttentionBackwardArgs {
  AttentionShape shape;
  const void* out;
  const void* dout;
  void* dqkv;
  float* row_products;  // D of the docs, of each query; the first kernel leaves it to the second
};
static_assert(sizeof(AttentionBackwardArgs) == 88 && offsetof(AttentionBackwardArgs, row_products) == 80);

}  // namespace kernels::cuda
