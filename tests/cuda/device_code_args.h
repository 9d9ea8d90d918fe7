// Arguments of the kernels of device_code_kernels.cpp.
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

// Where the threads' sums lie.
struct TestPlacesArgs {
  uint32_t* rows;
  uint32_t* columns;
};
static_assert(sizeof(TestPlacesArgs) == 16);

}  // namespace kernels::cuda
