// Arguments of kernels/cuda/elementwise.cu; pointers are device pointers.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

// y = y + x
struct AddArgs {
  uint64_t count;
  const float* x;
  float* y;
};
static_assert(sizeof(AddArgs) == 24);

// y = y * factor
struct ScaleArgs {
  uint64_t count;
  float* y;
  float factor;
  uint32_t padding;
};
static_assert(sizeof(ScaleArgs) == 24);

}  // namespace kernels::cuda
