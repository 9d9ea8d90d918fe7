// A step of AdamW for the benchmarks.
#pragma once

#include "kernels/ops.h"

namespace kernels::bench {

// Over one tensor, which is to outlive the call of it; the others are as long.
inline AdamW adamw_step(const TensorEnd& tensor, const float* g, float* w, float* m, float* v) {
  return {.tensor_count = 1,
          .tensors = &tensor,
          .beta1 = 0.9f,
          .one_minus_beta1 = 0.1f,
          .beta2 = 0.95f,
          .one_minus_beta2 = 0.05f,
          .epsilon = 1e-8f,
          .decay = 1,
          .step_size = 1e-6f,
          .inv_sqrt_bc2 = 1,
          .g = g,
          .w = w,
          .m = m,
          .v = v};
}

}  // namespace kernels::bench
