// Arguments of kernels/cuda/cross_entropy.cu; pointers are device pointers.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

// CrossEntropy of kernels/ops.h. A block of 512 threads for each row.
struct CrossEntropyArgs {
  float* logits;
  const uint16_t* targets;
  float* losses;
  uint32_t vocabulary;
  float scale_gradient;
};
static_assert(sizeof(CrossEntropyArgs) == 32 && offsetof(CrossEntropyArgs, scale_gradient) == 28);

}  // namespace kernels::cuda
