// Arguments of kernels/cuda/encode.cu; pointers are device pointers.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

struct EncodeArgs {
  uint64_t count;
  const float* x;
  float* scales;    // (ceil(count / 64))
  uint8_t* digits;  // (count), of int4 (ceil(count / 2))
};
static_assert(sizeof(EncodeArgs) == 32 && offsetof(EncodeArgs, digits) == 24);

}  // namespace kernels::cuda
