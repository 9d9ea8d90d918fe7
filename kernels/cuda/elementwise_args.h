// Arguments of kernels/cuda/elementwise.cu; pointers are device pointers.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

// y = y + x
struct AddArgs {
  uint64_t count;
  const float* x;
  float* y;
};
static_assert(sizeof(AddArgs) == 24 && offsetof(AddArgs, y) == 16);

// y = y * factor
struct ScaleArgs {
  uint64_t count;
  float* y;
  float factor;
  uint32_t padding;
};
static_assert(sizeof(ScaleArgs) == 24 && offsetof(ScaleArgs, padding) == 20);

// out = a - b; out may be either.
struct SubtractArgs {
  uint64_t count;
  const float* a;
  const float* b;
  float* out;
};
static_assert(sizeof(SubtractArgs) == 32 && offsetof(SubtractArgs, out) == 24);

// *index becomes the smaller of itself and the place of the first element that is not finite.
struct FirstNonFiniteArgs {
  uint64_t count;
  const float* x;
  unsigned long long* index;  // the type of atomicMin
};
static_assert(sizeof(FirstNonFiniteArgs) == 24 && offsetof(FirstNonFiniteArgs, index) == 16);

// *index = value
struct SetIndexArgs {
  unsigned long long* index;
  uint64_t value;
};
static_assert(sizeof(SetIndexArgs) == 16 && offsetof(SetIndexArgs, value) == 8);

}  // namespace kernels::cuda
