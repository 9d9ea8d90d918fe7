// Arguments of kernels/cuda/sums.cu; pointers are device pointers.
#pragma once

#include "cuda/shapes.h"

namespace kernels::cuda {

// Row sums of tensors that lie one behind the other in x. Tensor t has the elements of x, and the segments among those
// of the launch, from bounds[t] to bounds[t + 1]. partial[s] = R of segment s, or of its squares; sums[t] = the partial
// sums of the tensor's segments upward, from +0.
struct SegmentSumsArgs {
  const float* x;
  float* partial;  // (segments)
  float* sums;     // (tensors)
  uint32_t tensor_count;
  uint32_t padding;
  struct {
    uint64_t element;
    uint32_t segment;
    uint32_t padding;
  } bounds[launch_tensors + 1];
};
static_assert(sizeof(SegmentSumsArgs) == 32 + 16 * (launch_tensors + 1) && offsetof(SegmentSumsArgs, bounds) == 32);

}  // namespace kernels::cuda
