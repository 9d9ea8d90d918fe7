// Numbers that the kernels and their launches share.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

constexpr uint32_t warp_lanes = 32;
constexpr uint32_t chunk_terms = 2048;       // of a contraction, docs/numerics.md section 3
constexpr uint32_t segment_elements = 4096;  // of a row sum, likewise
constexpr uint32_t run_elements = 64;        // of a run sum, likewise
constexpr uint32_t add_threads = 256;        // of a block that adds chunks, with four neighbours each
constexpr uint32_t run_warps = 16;           // of a block that forms run sums
constexpr uint32_t run_sums = 2;             // that a launch forms of a column, at most
constexpr uint32_t quantise_warps = 4;       // of a block that quantises a row
constexpr uint32_t column_warps = 16;        // of a block that quantises columns
constexpr uint32_t launch_tensors = 240;     // that a launch takes: its arguments are 4,096 bytes at most
constexpr uint32_t adamw_threads = 256;      // of a block of AdamW
constexpr uint32_t adamw_elements = 1024;    // that such a block has
constexpr uint32_t row_threads = 512;        // of a block that has a row of logits
constexpr uint32_t line_threads = 2;         // for each row of the square tile that a block computes of a product of
                                             // digits or halves
constexpr uint32_t attention_tile = 64;      // tokens whose attention a block computes
constexpr uint32_t attention_threads = 128;  // of such a block
constexpr uint32_t attention_many_threads = 256;  // of one whose outputs fill the registers of twice as many
constexpr uint32_t flash_threads = 128;           // of a block of flash_attention.cu
constexpr uint32_t flash_slice = 64;  // dimensions of a head's keys and values whose gradients such a block has
// Queries of a block of its forward pass, for heads of at most so many dimensions.
template <uint32_t width>
constexpr uint32_t flash_queries = width <= 64 ? 128 : 64;

}  // namespace kernels::cuda
