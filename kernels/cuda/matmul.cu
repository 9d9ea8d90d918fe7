// The exact fp32 product (docs/numerics.md section 3): a block computes one chunk of a tile of c, a thread owns some of
// its elements, so that each adds its terms upward. The next slices are on their way while one is multiplied. Chunks
// beyond one leave their sums in memory, side by side, and matmul_add_chunks adds them upward. Blocks of tokens
// (section 4) of at most one chunk are such chunks too.
#include "cuda/matmul_args.h"
#include "cuda/tile.cuh"

namespace kernels::cuda {
namespace {

constexpr uint32_t depth = 8;  // terms of a slice

template <uint32_t tile>
struct Slices {
  alignas(16) float a[2][depth * slice_row(tile)];
  alignas(16) float b[2][depth * slice_row(tile)];
};

// The sums of a chunk of a tile, both numbered as blocks: row by row.
__device__ float* chunk_of_tile(const MatmulArgs& p, uint32_t tile, uint32_t chunk, uint32_t size) {
  return p.chunk_sums + (uint64_t{chunk} * gridDim.x + tile) * size * size;
}

// The sums go on through the operands' terms [term, end). whole: there are some, and every slice lies inside the
// operands, whose groups are aligned, so that nothing is checked. The next slice is stored even where there is none.
template <bool whole, uint32_t tile, uint32_t thread_m, uint32_t thread_n, class LoadA, class LoadB>
__device__ void contract(float (&sums)[thread_m][thread_n], LoadA next_a, LoadB next_b, uint32_t term, uint32_t end,
                         Slices<tile>& slices) {
  const auto load = [&](uint32_t terms_left) {
    if (!whole) {
      next_a.load(terms_left);
      next_b.load(terms_left);
    } else if (terms_left > 0) {
      next_a.load_whole();
      next_b.load_whole();
    }
  };
  const auto store = [&](uint32_t to) {
    next_a.store(slices.a[to]);
    next_b.store(slices.b[to]);
    __syncthreads();
  };
  const ThreadPlace place = kept(thread_place<tile / thread_n>());
  load(left(term, end));
  store(0);
#pragma unroll whole ? 2 : 1  // with two, the places in shared memory are constants
  for (uint32_t now = 0; term < end; term += depth, now ^= 1) {
    load(left(term + depth, end));
    multiply_slices<depth, tile, tile>(sums, place, slices.a[now], slices.b[now]);
    store(now ^ 1);
  }
}

// Blocks: x is a tile from the first one on, y a chunk. Layouts: a_terms where the terms of a's lines are neighbours in
// memory, else its lines are; b_terms likewise.
template <uint32_t tile, uint32_t thread_m, uint32_t thread_n, bool a_terms, bool b_terms>
__device__ void multiply(const MatmulArgs& p, Slices<tile>& slices) {
  constexpr uint32_t across = tile / thread_n, threads = tile / thread_m * across;
  const uint32_t first = blockIdx.y * p.chunk, end = first + min(left(first, p.k), p.chunk);
  const Operand a{p.a, p.a_stride, p.m, end, p.a_aligned != 0};
  const Operand b{p.b, p.b_stride, p.n, end, p.b_aligned != 0};
  const Corner at = corner_of_tile(p, p.first_tile + blockIdx.x, tile);
  const SliceLoad<tile, depth, threads, a_terms> next_a(a, at.row, first);
  const SliceLoad<tile, depth, threads, b_terms> next_b(b, at.column, first);
  float sums[thread_m][thread_n];
  clear(sums);
  if (next_a.whole() && next_b.whole() && first < end && (end - first) % depth == 0) {
    contract<true>(sums, next_a, next_b, first, end, slices);
  } else {
    contract<false>(sums, next_a, next_b, first, end, slices);
  }

  const ThreadPlace place = thread_place<across>();
  float* const chunk = p.chunk_sums ? chunk_of_tile(p, blockIdx.x, blockIdx.y, tile) : nullptr;
  loop_over_fours<threads>(sums, slices, [&](uint32_t i, uint32_t j, const Vector4& sum) {
    const uint32_t row = line_of_thread<tile, thread_m>(place.row, i);
    const uint32_t column = line_of_thread<tile, thread_n>(place.column, j);
    if (chunk) {
      store4(chunk + row * tile + column, sum, 4, true);
    } else if (at.row + row < p.m) {
      put(p, at.row + row, at.column + column, Vector4{} + sum);
    }
  });
}

}  // namespace

// Names: the tile's size, then t for a where its terms are neighbours, l where its lines are, then b.
#define MATMUL(name, tile, ...)                                                                                       \
  extern "C" __global__ __launch_bounds__(tile_##tile.threads, tile_##tile.blocks) void name(const MatmulArgs args) { \
    static __shared__ Slices<tile> slices;                                                                            \
    multiply<tile, __VA_ARGS__>(args, slices);                                                                        \
  }
#define MATMULS(tile, thread_m, thread_n)                           \
  MATMUL(matmul_##tile##_tt, tile, thread_m, thread_n, true, true)  \
  MATMUL(matmul_##tile##_tl, tile, thread_m, thread_n, true, false) \
  MATMUL(matmul_##tile##_lt, tile, thread_m, thread_n, false, true) \
  MATMUL(matmul_##tile##_ll, tile, thread_m, thread_n, false, false)
MATMULS(128, 8, 8)
MATMULS(64, 8, 4)
MATMULS(32, 4, 4)

// A thread has four neighbours of c. Blocks: x is a tile as above, y a part of it.
extern "C" __global__ void matmul_add_chunks(const MatmulArgs args) {
  const uint32_t across = args.tile / 4, group = blockIdx.y * blockDim.x + threadIdx.x;
  const uint32_t row = group / across, column = group % across * 4;
  const Corner at = corner_of_tile(args, args.first_tile + blockIdx.x, args.tile);
  if (at.row + row >= args.m || at.column + column >= args.n) return;
  const uint32_t chunks = (args.k + args.chunk - 1) / args.chunk, inside = left(at.column + column, args.n);
  float* const c = args.c + (at.row + row) * args.ldc + at.column + column;
  Vector4 total = {};
  if (args.blocks) total = load4(c, inside, args.c_aligned != 0);
#pragma unroll 4
  for (uint32_t chunk = 0; chunk < chunks; ++chunk) {
    const float* const sums = chunk_of_tile(args, blockIdx.x, chunk, args.tile);
    total = total + (Vector4{} + load4(sums + row * args.tile + column, 4, true));
  }
  if (args.blocks) return store4(c, total, inside, args.c_aligned != 0);
  put(args, at.row + row, at.column + column, total);
}

}  // namespace kernels::cuda
