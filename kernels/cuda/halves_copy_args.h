// Arguments of kernels/cuda/halves_copy.cu; pointers are device pointers.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

struct HalvesCopyArgs {
  const float* x;
  uint32_t* y;                  // two halves a word, the first the lower
  uint64_t x_stride, y_stride;  // elements from row to row; of y a multiple of 4 that has room for whole groups of 4
  uint32_t rows, columns;
  uint32_t aligned;  // groups of four neighbours of x may be read at once
  uint32_t padding;
};
static_assert(sizeof(HalvesCopyArgs) == 48 && offsetof(HalvesCopyArgs, padding) == 44);

}  // namespace kernels::cuda
