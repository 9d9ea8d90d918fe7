// Arguments of the kernel of elementary_kernel.cpp.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

// exps[i] = exp(x[i]), and so on
struct TestElementaryArgs {
  uint64_t count;
  const float* x;
  float* exps;
  float* tanhs;
  float* logs;
};
static_assert(sizeof(TestElementaryArgs) == 40);

}  // namespace kernels::cuda
