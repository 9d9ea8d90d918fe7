// Arguments of kernels/cuda/optimisers.cu: kernels/ops.h says what they mean.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

struct AdamWArgs {
  uint64_t count;
  const float* g;
  float* w;
  float* m;
  float* v;
  float beta1, one_minus_beta1, beta2, one_minus_beta2, epsilon;
  float decay, step_size, inv_sqrt_bc2;
};
static_assert(sizeof(AdamWArgs) == 72);

struct NesterovArgs {
  uint64_t count;
  const float* g;
  float* w;
  float* m;
  float lr, momentum;
};
static_assert(sizeof(NesterovArgs) == 40);

}  // namespace kernels::cuda
