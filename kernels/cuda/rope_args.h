// Arguments of kernels/cuda/rope.cu: kernels/ops.h says what they mean.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

struct RopeArgs {
  uint32_t tokens, context, heads, head_size;
  uint64_t row;      // elements from one token to the next
  const float* cos;  // (context, head_size / 2)
  const float* sin;
  void* x;        // (tokens, row), fp32 or halves
  uint32_t back;  // 1: the rotation back
  uint32_t padding;
};
static_assert(sizeof(RopeArgs) == 56 && offsetof(RopeArgs, padding) == 52);

}  // namespace kernels::cuda
