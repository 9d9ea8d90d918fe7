// Arguments of kernels/cuda/fast_matmul.cu; pointers are device pointers.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

// FastMatmul of kernels/ops.h. Tiles of c are numbered along rows or columns of tiles first.
struct FastMatmulArgs {
  const uint16_t* a;
  const uint16_t* b;
  void* c;                           // halves or fp32
  const void* bias;                  // as c, or null
  const float* residual;             // or null
  uint16_t* before_gelu;             // or null
  const uint16_t* gelu_input;        // or null
  uint64_t a_stride, b_stride, ldc;  // of a and b the stride that is not 1; the kernel's name tells which
  uint32_t m, n, k;
  uint32_t row_tiles, column_tiles;
  uint32_t rows_first;  // tile number + 1 is the next one down, not right
  uint32_t accumulate;
  uint32_t c_halves;
  uint32_t a_aligned, b_aligned;  // groups of eight terms, or of four lines, may be read at once
  uint32_t c_aligned;             // groups of four neighbours may be moved at once, of what lies like c or bias too
  uint32_t padding;
};
static_assert(sizeof(FastMatmulArgs) == 128 && offsetof(FastMatmulArgs, padding) == 124);

}  // namespace kernels::cuda
