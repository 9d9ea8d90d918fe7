#include "model/linear.h"

#include <algorithm>

namespace kernels {
namespace {

// A matmul is cut into rows of about this many multiplications, so that Cancel is heard within a second or so on
// a slow machine. Rows are independent: cutting changes no bit.
constexpr size_t multiplications_per_slice = size_t{1} << 32;
constexpr size_t slice_rows_multiple = 64;

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

void Linear::multiply(const Matmul& whole, const Cancel& cancel) const {
  const size_t fit = multiplications_per_slice / (whole.n * whole.k);
  const size_t rows = std::max(fit / slice_rows_multiple, size_t{1}) * slice_rows_multiple;
  for (size_t first = 0; first < whole.m; first += rows) {
    if (cancel && cancel()) throw Cancelled();
    Matmul slice = whole;
    slice.m = std::min(rows, whole.m - first);
    slice.a += first * whole.a_row;
    slice.c += first * whole.ldc;
    if (whole.residual) slice.residual += first * whole.ldc;
    ops_.matmul(slice);
  }
}

}  // namespace kernels
