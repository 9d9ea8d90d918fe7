// Numbers that the kernels and their launches share.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

constexpr uint32_t warp_lanes = 32;
constexpr uint32_t segment_elements = 4096;  // of a row sum, docs/numerics.md section 3
constexpr uint32_t run_elements = 64;        // of a run sum, likewise
constexpr uint32_t run_warps = 16;           // of a block that forms run sums
constexpr uint32_t quantise_warps = 4;       // of a block that quantises a row
constexpr uint32_t column_warps = 16;        // of a block that quantises columns

}  // namespace kernels::cuda
