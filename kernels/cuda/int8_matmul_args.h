// Arguments of kernels/cuda/int8_matmul.cu; pointers are device pointers.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

// Int8Matmul of kernels/ops.h; the fields that MatmulArgs has too mean the same.
struct Int8MatmulArgs {
  const int8_t* a;
  const int8_t* a_low;    // or null
  const float* a_scales;  // or null
  const int8_t* b;
  const float* b_scales;  // or null
  float* c;
  const float* bias;
  const float* residual;
  uint64_t a_stride, b_stride, ldc;
  uint32_t m, n, k;
  uint32_t row_tiles, column_tiles;
  uint32_t rows_first;
  uint32_t accumulate;
  uint32_t a_aligned, b_aligned;  // groups of 16 terms, or of 4 lines, may be read at once
  uint32_t c_aligned;
  uint32_t block;  // terms of a block of tokens
  uint32_t padding;
  uint64_t block_scales;  // from a block's scales to the next one's
};
static_assert(sizeof(Int8MatmulArgs) == 144 && offsetof(Int8MatmulArgs, block_scales) == 136);

}  // namespace kernels::cuda
