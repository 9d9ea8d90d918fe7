#include "cuda_host/matmul_launch.h"

#include <stdexcept>
#include <string>

#include "cuda/matmul_args.h"
#include "cuda_host/shape.h"

namespace kernels::cuda {
namespace {

// Large tiles read the operands less often; small ones are enough blocks for all multiprocessors sooner.
constexpr size_t enough_blocks = 128;

struct Tile {
  uint32_t size, threads;
  bool has_short;  // kernels for one chunk
};
constexpr Tile tiles[] = {{128, 256, true}, {64, 128, false}, {32, 64, false}};

const Tile& tile_of(uint32_t size) {
  for (const Tile& tile : tiles) {
    if (tile.size == size) return tile;
  }
  throw std::invalid_argument("no kernel has tiles of " + std::to_string(size));
}

void require_neighbours(const char* operand, size_t stride, size_t other) {
  if (stride == 1 || other == 1) return;
  throw std::invalid_argument(std::string("matmul: the strides of ") + operand + " are " + std::to_string(stride) +
                              " and " + std::to_string(other) + "; one must be 1");
}

}  // namespace

uint32_t matmul_tile(size_t m, size_t n) {
  for (const Tile& tile : tiles) {
    if (size_t{blocks_for(m, tile.size)} * blocks_for(n, tile.size) >= enough_blocks) return tile.size;
  }
  return 32;
}

void launch_matmul(const Matmul& op, uint32_t size, Launcher& device) {
  const Tile& tile = tile_of(size);
  require_neighbours("a", op.a_row, op.a_col);
  require_neighbours("b", op.b_row, op.b_col);
  if (op.m == 0 || op.n == 0) return;
  const bool a_terms = op.a_col == 1, b_terms = op.b_row == 1;
  MatmulArgs args{};
  args.a = op.a, args.b = op.b, args.c = op.c, args.bias = op.bias, args.residual = op.residual;
  args.a_stride = a_terms ? op.a_row : op.a_col;
  args.b_stride = b_terms ? op.b_col : op.b_row;
  args.ldc = op.ldc;
  args.m = narrow(op.m), args.n = narrow(op.n), args.k = narrow(op.k);
  args.row_tiles = blocks_for(op.m, size), args.column_tiles = blocks_for(op.n, size);
  args.rows_first = args.row_tiles <= args.column_tiles;  // the shorter side: its operand stays in the cache
  args.accumulate = op.accumulate;
  args.a_aligned = aligned(op.a, args.a_stride);
  args.b_aligned = aligned(op.b, args.b_stride);
  args.c_aligned = aligned(op.c, op.ldc) && aligned(op.bias, 0) && aligned(op.residual, op.ldc);

  const std::string name = "matmul_" + std::to_string(size) + (a_terms ? "_t" : "_l") + (b_terms ? "t" : "l") +
                           (tile.has_short && op.k <= chunk_terms ? "" : "_long");
  const Shape shape{.grid = {narrow(size_t{args.row_tiles} * args.column_tiles), 1, 1}, .block = {tile.threads, 1, 1}};
  launch(device, name.c_str(), shape, args);
}

}  // namespace kernels::cuda
