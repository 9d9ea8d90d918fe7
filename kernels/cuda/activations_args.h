// Arguments of kernels/cuda/activations.cu: kernels/ops.h says what they mean.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

struct GeluForwardArgs {
  uint64_t count;
  const float* x;
  float* y;
};
static_assert(sizeof(GeluForwardArgs) == 24 && offsetof(GeluForwardArgs, y) == 16);

struct GeluBackwardArgs {
  uint64_t count;
  const float* x;
  const float* dy;
  float* dx;  // may be dy
};
static_assert(sizeof(GeluBackwardArgs) == 32 && offsetof(GeluBackwardArgs, dx) == 24);

struct SwigluForwardArgs {
  uint32_t rows, inner;
  const float* gate_up;  // (rows, 2 * inner): gate | up
  float* y;              // (rows, inner)
};
static_assert(sizeof(SwigluForwardArgs) == 24 && offsetof(SwigluForwardArgs, y) == 16);

struct SwigluBackwardArgs {
  uint32_t rows, inner;
  const float* gate_up;
  const float* dy;  // (rows, inner)
  float* dgate_up;  // (rows, 2 * inner); may be gate_up
};
static_assert(sizeof(SwigluBackwardArgs) == 32 && offsetof(SwigluBackwardArgs, dgate_up) == 24);

}  // namespace kernels::cuda
