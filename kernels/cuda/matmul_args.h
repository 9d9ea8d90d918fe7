// Arguments of kernels/cuda/matmul.cu; pointers are device pointers.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

// Matmul of kernels/ops.h. Blocks: one for each tile of c, numbered along rows or columns of tiles first.
struct MatmulArgs {
  const float* a;
  const float* b;
  float* c;
  const float* bias;                 // or null
  const float* residual;             // or null
  uint64_t a_stride, b_stride, ldc;  // of a and b the stride that is not 1; the kernel's name tells which
  uint32_t m, n, k;
  uint32_t row_tiles, column_tiles;
  uint32_t rows_first;  // block number + 1 is the next tile down, not right
  uint32_t accumulate;
  uint32_t a_aligned, b_aligned, c_aligned;  // groups of four neighbours may be moved at once; c: bias, residual too
};
static_assert(sizeof(MatmulArgs) == 104);

}  // namespace kernels::cuda
