// Launches of kernels/cuda/matmul.cu, int8_matmul.cu and fast_matmul.cu. The pointers are device pointers. Throw
// std::invalid_argument where neither of a's two strides, or of b's, is 1.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda_host/int8_arithmetic.h"
#include "cuda_host/launch.h"
#include "kernels/ops.h"

namespace kernels::cuda {

// The side of the square tiles that c is cut into: 128, 64 or 32. No bit depends on it.
uint32_t matmul_tile(size_t m, size_t n);

void launch_matmul(const Matmul& op, uint32_t tile, Launcher& device);

// Likewise: 64 or 128.
uint32_t tensor_core_tile(size_t m, size_t n);

// Likewise: 64, with tensor cores also 128.
uint32_t int8_matmul_tile(size_t m, size_t n, Int8Arithmetic arithmetic);

void launch_int8_matmul(const Int8Matmul& op, uint32_t tile, Int8Arithmetic arithmetic, Launcher& device);

// Tiles of 64 or 128.
void launch_fast_matmul(const Matmul& op, uint32_t tile, HalfPrecision half, Launcher& device);

}  // namespace kernels::cuda
