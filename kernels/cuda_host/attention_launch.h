// Launches of kernels/cuda/attention.cu. The pointers are device pointers; no workspace is needed. Heads have at most
// 2048 dimensions (std::invalid_argument otherwise).
#pragma once

#include "cuda_host/launch.h"
#include "kernels/ops.h"

namespace kernels::cuda {

void launch_attention_forward(const AttentionForward& op, Launcher& device);
void launch_attention_backward(const AttentionBackward& op, Launcher& device);

}  // namespace kernels::cuda
