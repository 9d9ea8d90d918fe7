// Arguments of kernels/cuda/quantise.cu: kernels/ops.h says what they mean.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

struct QuantiseArgs {
  uint32_t rows, columns;
  uint32_t row;              // elements from one row of x, q and low to the next
  uint32_t block;            // of rows, whose columns are vectors by themselves; columns only
  const float* x;            // (rows, columns)
  const float* row_factors;  // (rows) or null; columns only
  int8_t* q;                 // (rows, columns)
  int8_t* low;               // (rows, columns) or null
  float* scales;             // (rows), or (blocks, columns)
};
static_assert(sizeof(QuantiseArgs) == 56 && offsetof(QuantiseArgs, scales) == 48);

}  // namespace kernels::cuda
