// Arguments of kernels/cuda/bias.cu: kernels/ops.h says what they mean.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

struct BiasBackwardArgs {
  uint32_t rows, channels;
  const float* dy;  // (rows, channels)
  float* dbias;     // (channels)
};
static_assert(sizeof(BiasBackwardArgs) == 24);

}  // namespace kernels::cuda
