// Arguments of kernels/cuda/matmul.cu; pointers are device pointers.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

// A square tile of c: its side, a block's threads, and how many blocks the registers of a multiprocessor have room for.
struct MatmulTile {
  uint32_t size, threads, blocks;
};
constexpr MatmulTile tile_128 = {128, 256, 2}, tile_64 = {64, 128, 5}, tile_32 = {32, 64, 10};

// Matmul of kernels/ops.h. Tiles of c are numbered along rows or columns of tiles first.
struct MatmulArgs {
  const float* a;
  const float* b;
  float* c;
  const float* bias;                 // or null
  const float* residual;             // or null
  uint64_t a_stride, b_stride, ldc;  // of a and b the stride that is not 1; the kernel's name tells which
  uint32_t m, n, k;
  uint32_t row_tiles, column_tiles;
  uint32_t rows_first;  // tile number + 1 is the next one down, not right
  uint32_t accumulate;
  uint32_t a_aligned, b_aligned, c_aligned;  // groups of four neighbours may be moved at once; c: bias, residual too
  float* chunk_sums;  // for each chunk each of the launch's tiles, or null where there is one chunk: it goes to c
  uint32_t tile;      // the side of a tile
  uint32_t first_tile;
  uint32_t chunk;   // terms of one
  uint32_t blocks;  // whether each chunk is a block, which is added to c by itself
};
static_assert(sizeof(MatmulArgs) == 128 && offsetof(MatmulArgs, blocks) == 124);

}  // namespace kernels::cuda
