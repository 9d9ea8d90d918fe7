#include "model/linear.h"

#include <algorithm>

namespace kernels {
namespace {

// A matmul is cut into pieces of about this many multiplications, so that Cancel is heard within a second or so on
// a slow machine. Elements are independent: cutting changes no bit.
constexpr size_t multiplications_per_piece = size_t{1} << 32;
constexpr size_t piece_multiple = 64;

}  // namespace

void Linear::forward(const float* x, const float* weight, const float* bias, const float* residual, size_t rows,
                     float* y, const Cancel& cancel) const {
  const bool inputs_first = layout_ == Layout::inputs_outputs;
  multiply({.m = rows,
            .n = outputs_,
            .k = inputs_,
            .a = x,
            .a_row = inputs_,
            .b = weight,
            .b_row = inputs_first ? outputs_ : 1,
            .b_col = inputs_first ? 1 : inputs_,
            .c = y,
            .ldc = outputs_,
            .bias = bias,
            .residual = residual},
           cancel);
}

void Linear::backward(const float* x, const float* weight, const float* dy, size_t rows, float* dx, float* dweight,
                      float* dbias, const Cancel& cancel) const {
  const bool inputs_first = layout_ == Layout::inputs_outputs;
  // The gradient of W has W's layout: its rows are inputs or outputs.
  multiply({.m = inputs_first ? inputs_ : outputs_,
            .n = inputs_first ? outputs_ : inputs_,
            .k = rows,
            .a = inputs_first ? x : dy,
            .a_row = 1,
            .a_col = inputs_first ? inputs_ : outputs_,
            .b = inputs_first ? dy : x,
            .b_row = inputs_first ? outputs_ : inputs_,
            .c = dweight,
            .ldc = inputs_first ? outputs_ : inputs_,
            .accumulate = true},
           cancel);
  if (dbias) ops_.bias_backward({.rows = rows, .channels = outputs_, .dy = dy, .dbias = dbias});
  multiply({.m = rows,
            .n = inputs_,
            .k = outputs_,
            .a = dy,
            .a_row = outputs_,
            .b = weight,
            .b_row = inputs_first ? 1 : inputs_,
            .b_col = inputs_first ? outputs_ : 1,
            .c = dx,
            .ldc = inputs_},
           cancel);
}

// Cut along the longer side of the result, so that little is packed twice.
void Linear::multiply(const Matmul& whole, const Cancel& cancel) const {
  const bool by_rows = whole.m >= whole.n;
  const size_t length = by_rows ? whole.m : whole.n, other = by_rows ? whole.n : whole.m;
  const size_t fit = multiplications_per_piece / (other * whole.k) / piece_multiple;
  const size_t size = std::max(fit, size_t{1}) * piece_multiple;
  for (size_t first = 0; first < length; first += size) {
    if (cancel && cancel()) throw Cancelled();
    const size_t row = by_rows ? first : 0, column = by_rows ? 0 : first, count = std::min(size, length - first);
    Matmul piece = whole;
    (by_rows ? piece.m : piece.n) = count;
    piece.a += row * whole.a_row;
    piece.b += column * whole.b_col;
    piece.c += row * whole.ldc + column;
    if (whole.bias) piece.bias += column;
    if (whole.residual) piece.residual += row * whole.ldc + column;
    ops_.matmul(piece);
  }
}

}  // namespace kernels
