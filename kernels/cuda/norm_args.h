// Arguments of kernels/cuda/norm.cu: kernels/ops.h says what they mean. void: fp32, or halves in the variants for
// those.
#pragma once

#include "cuda/run_sums_args.h"

namespace kernels::cuda {

struct LayerNormForwardArgs {
  uint32_t rows, channels;
  const float* x;  // (rows, channels)
  const float* weight;
  const float* bias;
  void* y;
  float* mean;  // (rows)
  float* rstd;  // (rows)
  float epsilon;
  uint32_t padding;
};
static_assert(sizeof(LayerNormForwardArgs) == 64 && offsetof(LayerNormForwardArgs, padding) == 60);

// Of both kernels of the backward pass: the gains' run before the rows', since dx may be dy.
struct LayerNormBackwardArgs {
  uint32_t rows, channels;
  const void* dy;
  const float* x;
  const float* weight;
  const float* mean;
  const float* rstd;
  const float* dresidual;  // or null
  float* dx;
  void* dx_halves;  // of the variants for halves, in the others null
  RunSums gains;    // of the weight and the bias
};
static_assert(sizeof(LayerNormBackwardArgs) == 112 && offsetof(LayerNormBackwardArgs, gains) == 72);

struct RmsNormForwardArgs {
  uint32_t rows, channels;
  const float* x;
  const float* weight;
  void* y;
  float* rstd;  // (rows)
  float epsilon;
  uint32_t padding;
};
static_assert(sizeof(RmsNormForwardArgs) == 48 && offsetof(RmsNormForwardArgs, padding) == 44);

struct RmsNormBackwardArgs {
  uint32_t rows, channels;
  const void* dy;
  const float* x;
  const float* weight;
  const float* rstd;
  const float* dresidual;  // or null
  float* dx;
  void* dx_halves;  // of the variants for halves, in the others null
  RunSums gains;    // of the weight
};
static_assert(sizeof(RmsNormBackwardArgs) == 104 && offsetof(RmsNormBackwardArgs, gains) == 64);

}  // namespace kernels::cuda
