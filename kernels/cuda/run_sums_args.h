// The gradients of biases and gains: sums over rows, for each column, which bias.cu and norm.cu form.
#pragma once

#include "cuda/shapes.h"

namespace kernels::cuda {

struct RunSums {
  uint32_t rows, columns;
  uint32_t block;        // rows of a block of tokens
  uint32_t sums;         // for each column
  float* out[run_sums];  // (columns) each, added to
  float* block_sums;     // (blocks, sums, columns), which add_block_sums adds to out upward; null where one block is
};
static_assert(sizeof(RunSums) == 40 && offsetof(RunSums, block_sums) == 32);

}  // namespace kernels::cuda
