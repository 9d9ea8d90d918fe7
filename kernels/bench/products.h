// The products of a linear layer for the benchmarks.
#pragma once

#include "kernels/ops.h"

namespace kernels::bench {

enum class Form { forward, input_gradient, weight_gradient };

// The product of a linear layer of `in` to `out` over `tokens`, as the forward pass and the gradients need it.
inline Matmul product_of(Form form, size_t tokens, size_t in, size_t out) {
  switch (form) {
    case Form::forward:
      return {.m = tokens, .n = out, .k = in, .a_row = in, .b_row = out, .ldc = out};
    case Form::input_gradient:
      return {.m = tokens, .n = in, .k = out, .a_row = out, .b_row = 1, .b_col = out, .ldc = in};
    case Form::weight_gradient:
      break;
  }
  return {.m = in, .n = out, .k = tokens, .a_row = 1, .a_col = in, .b_row = out, .ldc = out, .accumulate = true};
}

}  // namespace kernels::bench
