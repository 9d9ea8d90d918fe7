// Arguments of kernels/cuda/activations.cu: kernels/ops.h says what they mean. void: fp32, or halves in the variants
// for those. aligned: groups of four neighbours may be moved at once.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

struct GeluForwardArgs {
  uint64_t count;
  const void* x;
  void* y;
  uint32_t aligned;
  uint32_t padding;
};
static_assert(sizeof(GeluForwardArgs) == 32 && offsetof(GeluForwardArgs, padding) == 28);

struct GeluBackwardArgs {
  uint64_t count;
  const void* x;
  const void* dy;
  void* dx;  // may be dy
  uint32_t aligned;
  uint32_t padding;
};
static_assert(sizeof(GeluBackwardArgs) == 40 && offsetof(GeluBackwardArgs, padding) == 36);

struct SwigluForwardArgs {
  uint32_t rows, inner;
  const void* gate_up;  // (rows, 2 * inner): gate | up
  void* y;              // (rows, inner)
  uint32_t aligned;
  uint32_t padding;
};
static_assert(sizeof(SwigluForwardArgs) == 32 && offsetof(SwigluForwardArgs, padding) == 28);

struct SwigluBackwardArgs {
  uint32_t rows, inner;
  const void* gate_up;
  const void* dy;  // (rows, inner)
  void* dgate_up;  // (rows, 2 * inner); may be gate_up
  uint32_t aligned;
  uint32_t padding;
};
static_assert(sizeof(SwigluBackwardArgs) == 40 && offsetof(SwigluBackwardArgs, padding) == 36);

}  // namespace kernels::cuda
