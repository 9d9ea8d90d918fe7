// How a grid's threads share elements.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

// The number of a thread in a one-dimensional grid, and how many there are.
__device__ inline uint64_t grid_index() { return uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ inline uint64_t grid_size() { return uint64_t{gridDim.x} * blockDim.x; }

// f(first, inside) for the thread's groups of four elements: the number of the first, and how many there are.
template <class F>
__device__ inline void for_each_four(uint64_t count, F f) {
  for (uint64_t first = 4 * grid_index(); first < count; first += 4 * grid_size())
    f(first, count - first < 4 ? static_cast<uint32_t>(count - first) : 4);
}

// f(row, column) for the thread's elements of a matrix: columns along x, which are neighbours in memory, rows along y.
template <class F>
__device__ inline void for_each_row_and_column(uint32_t rows, uint32_t columns, F f) {
  for (uint64_t row = blockIdx.y; row < rows; row += gridDim.y)
    for (uint64_t column = grid_index(); column < columns; column += grid_size()) f(row, static_cast<uint32_t>(column));
}

// f(i, read(i)) for i = first, first + step, … below end. What `at_once` of them need is read before f has any: a
// compiler reads nothing ahead of what f may write.
template <uint32_t at_once, class Read, class F>
__device__ inline void for_each_read(uint32_t first, uint32_t end, uint32_t step, Read read, F f) {
  for (; first < end; first += at_once * step) {
    decltype(read(first)) values[at_once];
#pragma unroll
    for (uint32_t i = 0; i < at_once; ++i) {
      if (first + i * step < end) values[i] = read(first + i * step);
    }
#pragma unroll
    for (uint32_t i = 0; i < at_once; ++i) {
      if (first + i * step < end) f(first + i * step, values[i]);
    }
  }
}

}  // namespace kernels::cuda
