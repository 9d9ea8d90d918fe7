// Arguments of kernels/cuda/cross_entropy.cu; pointers are device pointers.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

// CrossEntropy of kernels/ops.h. A block of 512 threads for each row.
struct CrossEntropyArgs {
  void* logits;  // fp32 or halves
  const uint16_t* targets;
  float* losses;
  uint32_t vocabulary;
  uint32_t row;  // elements from one row of logits to the next
  float scale_gradient;
  uint32_t aligned;  // four neighbours from a row's first on may be moved at once
};
static_assert(sizeof(CrossEntropyArgs) == 40 && offsetof(CrossEntropyArgs, aligned) == 36);

}  // namespace kernels::cuda
