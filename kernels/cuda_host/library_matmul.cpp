#include "cuda_host/library_matmul.h"

#include <algorithm>

#include "cuda/halves_copy_args.h"
#include "cuda/int8_matmul_args.h"
#include "cuda_host/half_precision.h"
#include "cuda_host/shape.h"

namespace kernels::cuda {
namespace {

// Halves that one row takes: whole groups of 16 bytes.
size_t row_halves(size_t columns) { return (columns + 7) / 8 * 8; }

// Bytes of an array as halves, whichever of its sides is along rows.
size_t halves_bytes(size_t rows, size_t columns) { return sizeof(uint16_t) * row_halves(rows) * row_halves(columns); }

bool whole_groups_of_digits(const int8_t* first, size_t stride) {
  return reinterpret_cast<uintptr_t>(first) % 16 == 0 && stride % 16 == 0;
}

// The operand as halves at `to`, which moves behind them.
LibraryProduct::Operand copy_halves(const float* x, size_t stride, bool terms, size_t lines, size_t count,
                                    HalfPrecision half, std::byte*& to, Launcher& device) {
  const size_t rows = terms ? lines : count, columns = terms ? count : lines;
  const HalvesCopyArgs args{.x = x,
                            .y = reinterpret_cast<uint32_t*>(to),
                            .x_stride = stride,
                            .y_stride = row_halves(columns),
                            .rows = narrow(rows),
                            .columns = narrow(columns),
                            .aligned = aligned(x, stride),
                            .padding = 0};
  const std::string name = std::string("halves_copy_") + name_of(half);
  launch(device, name.c_str(), over_matrix(rows, blocks_for(columns, 4)), args);
  to += sizeof(uint16_t) * rows * args.y_stride;
  return {args.y, args.y_stride, terms};
}

}  // namespace

size_t library_matmul_workspace(size_t rows, size_t inputs, size_t outputs) {
  const size_t x = halves_bytes(rows, inputs), y = halves_bytes(rows, outputs), weight = halves_bytes(inputs, outputs);
  return library_workspace_bytes + x + y + weight - std::min({x, y, weight});
}

bool library_fast_matmul(const Matmul& op, HalfPrecision half, GemmLibrary& library, Launcher& device) {
  const bool a_terms = op.a_col == 1, b_terms = op.b_row == 1;
  const bool neighbours = (a_terms || op.a_row == 1) && (b_terms || op.b_col == 1);
  const bool c_aligned = aligned(op.c, op.ldc) && aligned(op.bias, 0) && aligned(op.residual, 0);
  if (op.workspace == nullptr || !neighbours || !c_aligned || (op.accumulate && op.residual != nullptr)) return false;
  if (op.m == 0 || op.n == 0 || op.k == 0 || library.failed()) return false;
  std::byte* halves = static_cast<std::byte*>(op.workspace) + library_workspace_bytes;
  const size_t a_stride = a_terms ? op.a_row : op.a_col, b_stride = b_terms ? op.b_col : op.b_row;
  const auto a = copy_halves(op.a, a_stride, a_terms, op.m, op.k, half, halves, device);
  const auto b = copy_halves(op.b, b_stride, b_terms, op.n, op.k, half, halves, device);
  return library.multiply(
      {.type = half == HalfPrecision::bf16 ? LibraryProduct::Type::bf16 : LibraryProduct::Type::fp16,
       .m = op.m,
       .n = op.n,
       .k = op.k,
       .a = a,
       .b = b,
       .c = op.c,
       .ldc = op.ldc,
       .bias = op.bias,
       .addend = op.accumulate ? op.c : op.residual,
       .workspace = op.workspace});
}

// The sums come to lie in c, so it must not hold what is needed later.
bool library_int8_matmul(const Int8Matmul& op, GemmLibrary& library, Launcher& device) {
  const bool terms = op.a_col == 1 && op.b_row == 1 && op.a_low == nullptr;
  const bool c_is_free = !op.accumulate && op.residual != op.c;
  const bool whole_groups = op.n % 4 == 0 && op.k % 4 == 0 && whole_groups_of_digits(op.a, op.a_row) &&
                            whole_groups_of_digits(op.b, op.b_col) && aligned(op.c, op.ldc);
  if (!terms || !c_is_free || !whole_groups || op.m == 0 || op.n == 0 || op.k == 0) return false;
  const LibraryProduct product{.type = LibraryProduct::Type::int8,
                               .m = op.m,
                               .n = op.n,
                               .k = op.k,
                               .a = {op.a, op.a_row, true},
                               .b = {op.b, op.b_col, true},
                               .c = op.c,
                               .ldc = op.ldc};
  if (!library.multiply(product)) return false;
  Int8MatmulArgs args{};
  args.c = op.c, args.ldc = op.ldc, args.m = narrow(op.m), args.n = narrow(op.n);
  args.a_scales = op.a_scales, args.b_scales = op.b_scales, args.bias = op.bias, args.residual = op.residual;
  args.c_aligned = aligned(op.bias, 0) && aligned(op.residual, 0) && aligned(op.b_scales, 0);
  launch(device, "int8_matmul_scales", over_matrix(op.m, blocks_for(op.n, 4)), args);
  return true;
}

}  // namespace kernels::cuda
