// Launches of kernels/cuda/attention.cu and flash_attention.cu. The pointers are device pointers; no workspace is
// needed. Heads have at most 2048 dimensions, with halves at most fast_head_size (std::invalid_argument otherwise).
#pragma once

#include "cuda_host/launch.h"
#include "kernels/ops.h"

namespace kernels::cuda {

void launch_attention_forward(const AttentionForward& op, Launcher& device);
void launch_attention_backward(const AttentionBackward& op, Launcher& device);

void launch_flash_attention_forward(const AttentionForward& op, HalfPrecision half, Launcher& device);
void launch_flash_attention_backward(const AttentionBackward& op, HalfPrecision half, Launcher& device);

}  // namespace kernels::cuda
