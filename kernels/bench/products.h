// The products of a linear layer for the benchmarks.
#pragma once

#include "kernels/ops.h"
#include "model/head.h"

namespace kernels::bench {

enum class Form { forward, input_gradient, weight_gradient };

// The product of a linear layer of `in` to `out` over `tokens`, as the forward pass and the gradients need it. Rows of
// outputs lie apart as those of logits, whose number alone is no multiple of 16.
inline Matmul product_of(Form form, size_t tokens, size_t in, size_t out) {
  const size_t row = row_of_logits(out);
  switch (form) {
    case Form::forward:
      return {.m = tokens, .n = out, .k = in, .a_row = in, .b_row = row, .ldc = row};
    case Form::input_gradient:
      return {.m = tokens, .n = in, .k = out, .a_row = row, .b_row = 1, .b_col = row, .ldc = in};
    case Form::weight_gradient:
      break;
  }
  return {.m = in, .n = out, .k = tokens, .a_row = 1, .a_col = in, .b_row = row, .ldc = row, .accumulate = true};
}

// Elements of its arrays.
inline size_t elements_of_a(const Matmul& op) { return op.a_col == 1 ? op.m * op.a_row : op.k * op.a_col; }
inline size_t elements_of_b(const Matmul& op) { return op.b_col == 1 ? op.k * op.b_row : op.n * op.b_col; }
inline size_t elements_of_c(const Matmul& op) { return op.m * op.ldc; }

}  // namespace kernels::bench
