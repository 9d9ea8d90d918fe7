// Arguments of kernels/cuda/sums.cu; pointers are device pointers.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

// partial[s] = R of segment s of x, or of x * x
struct SegmentSumsArgs {
  uint64_t count;
  const float* x;
  float* partial;  // (ceil(count / segment_elements))
};
static_assert(sizeof(SegmentSumsArgs) == 24);

// *sum = partial[0] + partial[1] + …, from +0
struct AddSegmentsArgs {
  uint64_t count;
  const float* partial;
  float* sum;
};
static_assert(sizeof(AddSegmentsArgs) == 24);

}  // namespace kernels::cuda
