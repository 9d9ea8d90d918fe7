// Grids and blocks, and a launch with its arguments.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

#include "cuda/shapes.h"
#include "cuda_host/launch.h"
#include "kernels/ops.h"

namespace kernels::cuda {

struct Shape {
  uint32_t grid[3] = {1, 1, 1};
  uint32_t block[3] = {1, 1, 1};
  uint32_t shared_bytes = 0;
};

// A size as the kernels take it. Throws std::length_error where it is beyond them.
inline uint32_t narrow(size_t size) {
  if (size > std::numeric_limits<int32_t>::max())
    throw std::length_error("CUDA kernels take fewer than 2^31 rows and columns, not " + std::to_string(size));
  return static_cast<uint32_t>(size);
}

inline size_t ceil_div(size_t count, size_t by) { return (count + by - 1) / by; }
inline uint32_t blocks_for(size_t count, size_t of_a_block) { return narrow(ceil_div(count, of_a_block)); }

// Whether groups of bytes, in lines stride_bytes apart, are aligned as a whole. Null is.
inline bool whole_groups(const void* first, size_t stride_bytes, size_t group_bytes) {
  return reinterpret_cast<uintptr_t>(first) % group_bytes == 0 && stride_bytes % group_bytes == 0;
}

// Groups of 16 bytes, and of four neighbours, in lines `stride` elements apart.
inline bool aligned_16(ConstFloatsOrHalves array, size_t stride) {
  return whole_groups(array.first(), stride * (array.halves() ? 2 : 4), 16);
}
inline bool aligned(ConstFloatsOrHalves array, size_t stride) {
  const size_t element = array.halves() ? 2 : 4;
  return whole_groups(array.first(), stride * element, 4 * element);
}

// For cuda/grid.cuh: single elements, which the grid's threads share in a loop.
inline Shape over_elements(size_t count) {
  constexpr uint32_t threads = 256;
  return {.grid = {std::min(blocks_for(count, threads), 65535u), 1, 1}, .block = {threads, 1, 1}};
}
inline Shape over_matrix(size_t rows, size_t columns) {
  const uint32_t threads = std::min(blocks_for(columns, warp_lanes) * warp_lanes, 256u);
  return {.grid = {blocks_for(columns, threads), std::min(narrow(rows), 65535u), 1}, .block = {threads, 1, 1}};
}

// For for_each_four().
inline Shape over_fours(size_t count) { return over_elements(ceil_div(count, 4)); }

// A warp for each row or segment, four to a block.
inline Shape warp_per_row(size_t rows) { return {.grid = {blocks_for(rows, 4), 1, 1}, .block = {warp_lanes, 4, 1}}; }

// A block of so many warps for each 32 columns of each block of tokens.
inline Shape over_columns(size_t columns, size_t blocks, uint32_t warps) {
  return {.grid = {blocks_for(columns, warp_lanes), narrow(blocks), 1}, .block = {warp_lanes, warps, 1}};
}

template <class Args>
void launch(Launcher& device, const char* kernel, const Shape& shape, const Args& args) {
  static_assert(sizeof(Args) <= maximum_args_bytes);
  Launch all{.kernel = kernel, .shared_bytes = shape.shared_bytes, .args = &args, .args_bytes = sizeof args};
  std::copy_n(shape.grid, 3, all.grid);
  std::copy_n(shape.block, 3, all.block);
  device.launch(all);
}

}  // namespace kernels::cuda
