// Arguments of kernels/cuda/round_to_halves.cu: kernels/ops.h says what they mean.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

struct RoundToHalvesArgs {
  uint64_t count;
  const float* x;
  void* y;
  uint32_t aligned;  // groups of four neighbours may be moved at once
  uint32_t padding;
};
static_assert(sizeof(RoundToHalvesArgs) == 32 && offsetof(RoundToHalvesArgs, padding) == 28);

}  // namespace kernels::cuda
