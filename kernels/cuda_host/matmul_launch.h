// Launches of kernels/cuda/matmul.cu.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda_host/launch.h"
#include "kernels/ops.h"

namespace kernels::cuda {

// The side of the square tiles that c is cut into: 128, 64 or 32. No bit depends on it.
uint32_t matmul_tile(size_t m, size_t n);

// Queues the product; the pointers are device pointers. Throws std::invalid_argument where neither of a's two strides,
// or of b's, is 1.
void launch_matmul(const Matmul& op, uint32_t tile, Launcher& device);

}  // namespace kernels::cuda
