// Arguments of kernels/cuda/bias.cu: kernels/ops.h says what they mean.
#pragma once

#include "cuda/run_sums_args.h"

namespace kernels::cuda {

struct BiasBackwardArgs {
  RunSums run;     // of one sum
  const void* dy;  // (rows, columns), fp32 or halves
};
static_assert(sizeof(BiasBackwardArgs) == 48 && offsetof(BiasBackwardArgs, dy) == 40);

}  // namespace kernels::cuda
