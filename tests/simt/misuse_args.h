// Arguments of the kernels of misuse.cpp.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

struct TestArgs {
  const float* x;
  float* y;
  uint32_t number;
  uint32_t padding;
};
static_assert(sizeof(TestArgs) == 24);

}  // namespace kernels::cuda
