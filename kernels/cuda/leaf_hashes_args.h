// Arguments of kernels/cuda/leaf_hashes.cu; pointers are device pointers.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

// hashes[l] = SHA-256 of a zero byte and leaf l of x
struct LeafHashesArgs {
  uint64_t count;
  const float* x;
  uint8_t* hashes;  // (ceil(count / leaf), 32), aligned to 4 bytes
  uint32_t leaf;    // floats; the last leaf may have fewer
  uint32_t padding;
};
static_assert(sizeof(LeafHashesArgs) == 32 && offsetof(LeafHashesArgs, padding) == 28);

}  // namespace kernels::cuda
