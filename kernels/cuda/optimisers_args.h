// Arguments of kernels/cuda/optimisers.cu: kernels/ops.h says what they mean.
#pragma once

#include "cuda/shapes.h"

namespace kernels::cuda {

// Elements are counted from g, w, m and v on. The launch is for those from `begin` on.
struct AdamWArgs {
  uint64_t begin;
  const float* g;
  float* w;
  float* m;
  float* v;
  float beta1, one_minus_beta1, beta2, one_minus_beta2, epsilon;
  float step_size, inv_sqrt_bc2;
  uint32_t tensor_count;
  struct {
    uint64_t end;
    float decay;
    uint32_t padding;
  } tensors[launch_tensors];
};
static_assert(sizeof(AdamWArgs) == 72 + 16 * launch_tensors && offsetof(AdamWArgs, tensors) == 72);

struct NesterovArgs {
  uint64_t count;
  const float* g;
  float* w;
  float* m;
  float lr, momentum;
};
static_assert(sizeof(NesterovArgs) == 40 && offsetof(NesterovArgs, momentum) == 36);

}  // namespace kernels::cuda
