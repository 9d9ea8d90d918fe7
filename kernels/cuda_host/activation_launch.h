// Launches of kernels/cuda/activations.cu. The pointers are device pointers; `half` is what arrays of halves hold.
#pragma once

#include "cuda_host/launch.h"
#include "kernels/ops.h"

namespace kernels::cuda {

void launch_gelu_forward(const GeluForward& op, HalfPrecision half, Launcher& device);
void launch_gelu_backward(const GeluBackward& op, HalfPrecision half, Launcher& device);
void launch_swiglu_forward(const SwigluForward& op, HalfPrecision half, Launcher& device);
void launch_swiglu_backward(const SwigluBackward& op, HalfPrecision half, Launcher& device);

}  // namespace kernels::cuda
