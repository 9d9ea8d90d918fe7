// The number of a thread in a one-dimensional grid, and how many there are.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

__device__ inline uint64_t grid_index() { return uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ inline uint64_t grid_size() { return uint64_t{gridDim.x} * blockDim.x; }

}  // namespace kernels::cuda
