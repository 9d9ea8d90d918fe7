// Launches of kernels/cuda/matmul.cu, int8_matmul.cu and fast_matmul.cu. The pointers are device pointers. Throw
// std::invalid_argument where neither of a's two strides, or of b's, is 1.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "cuda_host/int8_arithmetic.h"
#include "cuda_host/launch.h"
#include "kernels/ops.h"

namespace kernels::cuda {

// A block computes one chunk (docs/numerics.md section 3) of one tile, so that many multiprocessors have work where
// tiles are few. This is room for the sums of 512 such blocks with tiles of 128, 32 MB: on all but the largest cards
// enough for each multiprocessor to have several. A product has at most 8,192 chunks.
constexpr size_t chunk_sums_floats = size_t{1} << 23;

// The side of the square tiles that c is cut into: 128, 64 or 32, of which that one is taken whose blocks are the least
// work for the multiprocessor that has most of them. Counted, not measured. No bit depends on it.
uint32_t matmul_tile(size_t m, size_t n, size_t k, size_t block, uint32_t multiprocessors);

// chunk_sums: the device's memory, of any content, for products of several chunks or blocks of tokens; as many tiles as
// fit are computed at once. Throws std::length_error where one does not. Several blocks of tokens, of at most a chunk
// each, are computed in one launch where both operands' lines are neighbours in memory, as in the gradient of a linear
// layer's weight; else one after the other.
void launch_matmul(const Matmul& op, uint32_t tile, std::span<float> chunk_sums, Launcher& device);

// As matmul_tile() for blocks that compute whole contractions: 64 or 128.
uint32_t tensor_core_tile(size_t m, size_t n, uint32_t multiprocessors);

// Likewise: 64, with tensor cores also 128.
uint32_t int8_matmul_tile(size_t m, size_t n, Int8Arithmetic arithmetic, uint32_t multiprocessors);

// Several blocks of tokens as in launch_matmul(), of any length, where a has one digit.
void launch_int8_matmul(const Int8Matmul& op, uint32_t tile, Int8Arithmetic arithmetic, Launcher& device);

// Tiles of 64 or 128.
void launch_fast_matmul(const FastMatmul& op, uint32_t tile, HalfPrecision half, Launcher& device);

}  // namespace kernels::cuda
