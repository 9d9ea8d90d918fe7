#include "cuda_host/matmul_launch.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "cuda/fast_matmul_args.h"
#include "cuda/int8_matmul_args.h"
#include "cuda/matmul_args.h"
#include "cuda_host/half_precision.h"
#include "cuda_host/shape.h"
#include "kernels/blocks.h"

namespace kernels::cuda {
namespace {

// The tiles of matmul.cu. The work for a multiplication is an estimate, in eighths of the multiplication itself: for 8
// of them a thread reads 2, 3 or 4 numbers from shared memory, by its 8 x 8, 8 x 4 or 4 x 4 sums, and the block a 64th,
// 32nd or 16th of a number each from the second-level cache, which counts 24 times: by so much it is slower.
struct Tile : MatmulTile {
  uint32_t work;
};
constexpr Tile tiles[] = {{tile_128, 8 + 2 + 3}, {tile_64, 8 + 3 + 6}, {tile_32, 8 + 4 + 12}};

const Tile& tile_of(uint32_t size) {
  for (const Tile& tile : tiles) {
    if (tile.size == size) return tile;
  }
  throw std::invalid_argument("no kernel has tiles of " + std::to_string(size));
}

static_assert(chunk_sums_floats / (size_t{32} * 32) <= 65535, "the chunks of a tile are a grid's second dimension");

// Terms of what a thread block adds up: a chunk, or a block of tokens where there are several.
uint32_t terms_at_once(size_t k, size_t block) { return block > 0 && block < k ? narrow(block) : chunk_terms; }

// Of how many tiles a launch computes all chunks, where the memory has room for the sums of `most`: whole waves of
// blocks, as many as the multiprocessors have at once, so that none waits for the last ones. The last launch is what is
// left.
size_t tiles_of_launch(size_t most, uint32_t chunks, const Tile& tile, uint32_t multiprocessors) {
  const size_t wave = size_t{tile.blocks} * multiprocessors, waves = most * chunks / wave;
  return waves == 0 ? most : std::max<size_t>(waves * wave / chunks, 1);
}

// A contraction without terms is a chunk, too.
uint32_t chunks_of(size_t k, uint32_t chunk) { return std::max(blocks_for(k, chunk), 1u); }

void require_neighbours(const char* operand, size_t stride, size_t other) {
  if (stride == 1 || other == 1) return;
  throw std::invalid_argument(std::string("matmul: the strides of ") + operand + " are " + std::to_string(stride) +
                              " and " + std::to_string(other) + "; one must be 1");
}

// Whether the terms of a's lines (rows) and of b's (columns) are neighbours in memory; else the lines are.
struct Layout {
  bool a_terms, b_terms;
  std::string name() const { return std::string(a_terms ? "_t" : "_l") + (b_terms ? "t" : "l"); }
  // As in the gradient of a weight, which alone has blocks of tokens; only there a launch computes several.
  bool both_lines() const { return !a_terms && !b_terms; }
};

// Checks the strides and fills the fields that the arguments of all products have in common.
template <class Op, class Args>
Layout fill(const Op& op, uint32_t tile, Args& args) {
  require_neighbours("a", op.a_row, op.a_col);
  require_neighbours("b", op.b_row, op.b_col);
  const Layout layout{op.a_col == 1, op.b_row == 1};
  args.a = op.a, args.b = op.b, args.residual = op.residual;
  args.a_stride = layout.a_terms ? op.a_row : op.a_col;
  args.b_stride = layout.b_terms ? op.b_col : op.b_row;
  args.ldc = op.ldc;
  args.m = narrow(op.m), args.n = narrow(op.n), args.k = narrow(op.k);
  args.row_tiles = blocks_for(op.m, tile), args.column_tiles = blocks_for(op.n, tile);
  args.rows_first = args.row_tiles <= args.column_tiles;  // the shorter side: its operand stays in the cache
  args.accumulate = op.accumulate;
  args.c_aligned = aligned(op.c, op.ldc) && aligned(op.bias, 0) && aligned(op.residual, op.ldc);
  return layout;
}

Shape shape_of(size_t row_tiles, size_t column_tiles, uint32_t threads) {
  return {.grid = {narrow(row_tiles * column_tiles), 1, 1}, .block = {threads, 1, 1}};
}

// Groups of digits or halves that are read at once: 16 bytes of terms, or 4 lines.
template <class T>
bool aligned_group(const T* first, size_t stride, bool terms) {
  return whole_groups(first, stride * sizeof(T), terms ? 16 : 4 * sizeof(T));
}

}  // namespace

uint32_t matmul_tile(size_t m, size_t n, size_t k, size_t block, uint32_t multiprocessors) {
  const uint32_t chunk = std::min(terms_at_once(k, block), chunk_terms);
  const size_t chunks = chunks_of(k, chunk);
  const auto work_of_the_busiest = [&](const Tile& tile) {
    const size_t area = size_t{tile.size} * tile.size;
    if (chunks * area > chunk_sums_floats) return std::numeric_limits<size_t>::max();
    const size_t count = size_t{blocks_for(m, tile.size)} * blocks_for(n, tile.size);
    const size_t blocks = chunks == 1 ? count : ceil_div(count * k, chunk);  // the last chunk is a part of one
    return ceil_div(blocks, multiprocessors) * area * tile.work;
  };
  return std::ranges::min(tiles, {}, work_of_the_busiest).size;
}

void launch_matmul(const Matmul& op, uint32_t size, std::span<float> chunk_sums, Launcher& device) {
  const Tile& tile = tile_of(size);
  MatmulArgs args{};
  const Layout layout = fill(op, size, args);
  if (op.m == 0 || op.n == 0) return;
  args.c = op.c, args.bias = op.bias;
  args.a_aligned = aligned(op.a, args.a_stride), args.b_aligned = aligned(op.b, args.b_stride);
  args.chunk = terms_at_once(op.k, op.block), args.blocks = op.block > 0 && op.block < op.k;
  if (args.blocks && (!layout.both_lines() || args.chunk > chunk_terms))
    return for_each_block(op, [&](const Matmul& one) { launch_matmul(one, size, chunk_sums, device); });
  args.tile = size;
  const std::string name = "matmul_" + std::to_string(size) + layout.name();
  const uint32_t tile_count = narrow(size_t{args.row_tiles} * args.column_tiles), chunks = chunks_of(op.k, args.chunk);
  if (chunks == 1)
    return launch(device, name.c_str(), {.grid = {tile_count, 1, 1}, .block = {tile.threads, 1, 1}}, args);

  const size_t area = size_t{size} * size, fitting = chunk_sums.size() / (chunks * area);
  if (fitting == 0) throw std::length_error("matmul: no room for the sums of " + std::to_string(chunks) + " chunks");
  const size_t most = tiles_of_launch(fitting, chunks, tile, device.multiprocessors());
  const uint32_t parts = narrow(area / 4 / add_threads);
  args.chunk_sums = chunk_sums.data();
  for (uint32_t count; args.first_tile < tile_count; args.first_tile += count) {
    count = narrow(std::min<size_t>(most, tile_count - args.first_tile));
    launch(device, name.c_str(), {.grid = {count, chunks, 1}, .block = {tile.threads, 1, 1}}, args);
    launch(device, "matmul_add_chunks", {.grid = {count, parts, 1}, .block = {add_threads, 1, 1}}, args);
  }
}

uint32_t tensor_core_tile(size_t m, size_t n, uint32_t multiprocessors) {
  return std::max(matmul_tile(m, n, 1, 0, multiprocessors), 64u);
}

uint32_t int8_matmul_tile(size_t m, size_t n, Int8Arithmetic arithmetic, uint32_t multiprocessors) {
  const bool tensor_cores = arithmetic == Int8Arithmetic::m8n8k16 || arithmetic == Int8Arithmetic::m16n8k32;
  return tensor_cores ? tensor_core_tile(m, n, multiprocessors) : 64;
}

void launch_int8_matmul(const Int8Matmul& op, uint32_t tile, Int8Arithmetic arithmetic, Launcher& device) {
  Int8MatmulArgs args{};
  const Layout layout = fill(op, tile, args);
  if (op.m == 0 || op.n == 0) return;
  args.c = op.c, args.bias = op.bias;
  args.a_low = op.a_low, args.a_scales = op.a_scales, args.b_scales = op.b_scales;
  args.block = op.block > 0 && op.block < op.k ? narrow(op.block) : args.k, args.block_scales = op.block_scales;
  const bool several = args.block < args.k;
  if (several && (!layout.both_lines() || op.a_low))
    return for_each_block(op, [&](const Int8Matmul& one) { launch_int8_matmul(one, tile, arithmetic, device); });
  args.a_aligned =
      aligned_group(op.a, args.a_stride, layout.a_terms) && aligned_group(op.a_low, args.a_stride, layout.a_terms);
  args.b_aligned = aligned_group(op.b, args.b_stride, layout.b_terms);
  args.c_aligned = args.c_aligned && aligned(op.b_scales, op.block_scales);
  const std::string variant = several ? "_blocks" : layout.name();
  const std::string name = "int8_matmul_" + std::to_string(tile) + variant + "_" + name_of(arithmetic);
  launch(device, name.c_str(), shape_of(args.row_tiles, args.column_tiles, line_threads * tile), args);
}

void launch_fast_matmul(const FastMatmul& op, uint32_t tile, HalfPrecision half, Launcher& device) {
  FastMatmulArgs args{};
  const Layout layout = fill(op, tile, args);
  if (op.m == 0 || op.n == 0) return;
  args.c = op.c.first(), args.c_halves = op.c.halves(), args.bias = op.bias.first();
  args.before_gelu = op.before_gelu, args.gelu_input = op.gelu_input;
  args.a_aligned = aligned_group(op.a, args.a_stride, layout.a_terms);
  args.b_aligned = aligned_group(op.b, args.b_stride, layout.b_terms);
  args.c_aligned = args.c_aligned && aligned(op.before_gelu, 0) && aligned(op.gelu_input, 0);
  const std::string name = "fast_matmul_" + std::to_string(tile) + layout.name() + "_" + name_of(half);
  launch(device, name.c_str(), shape_of(args.row_tiles, args.column_tiles, line_threads * tile), args);
}

}  // namespace kernels::cuda
