// Tensors that lie one behind the other, which a launch has the ends of among its arguments.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

// The first of `tensors` tensors that ends after `at`, by halving. end(t): where tensor t ends.
template <class End>
__device__ inline uint32_t tensor_at(uint64_t at, uint32_t tensors, End end) {
  uint32_t low = 0, high = tensors - 1;
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    if (at < end(middle))
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

}  // namespace kernels::cuda
