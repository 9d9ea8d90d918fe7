#include "bench/card_operations.h"

#include <algorithm>
#include <functional>
#include <sstream>
#include <stdexcept>

#include "bench/card_memory_operations.h"
#include "bench/measure.h"
#include "bench/products.h"

namespace kernels::bench {
namespace {

constexpr size_t block_tokens = 1024;  // whose sums the gradient of a weight adds up one by one

Call matmul(Form form, Ops& ops, Arrays& arrays, const Sizes& n) {
  Matmul op = product_of(form, n[0], n[1], n[2]);
  if (op.accumulate) op.block = block_tokens;
  op.a = arrays.floats(elements_of_a(op)), op.b = arrays.floats(elements_of_b(op));
  op.c = arrays.floats(elements_of_c(op));
  return [&ops, op] { ops.matmul(op); };
}

// As in a model: gradients of weights are fp32, the rest halves.
Call fast_matmul(Form form, Ops& ops, Arrays& arrays, const Sizes& n) {
  const Matmul shape = product_of(form, n[0], n[1], n[2]);
  const FastMatmul op{.m = shape.m,
                      .n = shape.n,
                      .k = shape.k,
                      .a = arrays.halves(elements_of_a(shape)),
                      .a_row = shape.a_row,
                      .a_col = shape.a_col,
                      .b = arrays.halves(elements_of_b(shape)),
                      .b_row = shape.b_row,
                      .b_col = shape.b_col,
                      .c = arrays.floats_or_halves(elements_of_c(shape), !shape.accumulate),
                      .ldc = shape.ldc,
                      .accumulate = shape.accumulate,
                      .workspace = arrays.floats(ops.fast_workspace() / sizeof(float) + 1)};
  return [&ops, op] { ops.fast_matmul(op); };
}

Call int8_matmul(Form form, Ops& ops, Arrays& arrays, const Sizes& n) {
  const Matmul shape = product_of(form, n[0], n[1], n[2]);
  const size_t blocks = shape.accumulate ? (shape.k + block_tokens - 1) / block_tokens : 1;
  const size_t scales = std::max(shape.m, shape.n);  // of a block
  const Int8Matmul op{.m = shape.m,
                      .n = shape.n,
                      .k = shape.k,
                      .a = arrays.digits(elements_of_a(shape)),
                      .a_row = shape.a_row,
                      .a_col = shape.a_col,
                      .a_scales = arrays.positive(blocks * scales),
                      .b = arrays.digits(elements_of_b(shape)),
                      .b_row = shape.b_row,
                      .b_col = shape.b_col,
                      .b_scales = arrays.positive(blocks * scales),
                      .c = arrays.floats(elements_of_c(shape)),
                      .ldc = shape.ldc,
                      .accumulate = shape.accumulate,
                      .block = shape.accumulate ? block_tokens : 0,
                      .block_scales = scales};
  return [&ops, op] { ops.int8_matmul(op); };
}

Call attention_forward(bool fast, Ops& ops, Arrays& arrays, const Sizes& n) {
  const size_t rows = n[0] * n[1], width = n[2] * n[3];
  const AttentionForward op{.sequences = n[0],
                            .context = n[1],
                            .heads = n[2],
                            .kv_heads = n[2],
                            .head_size = n[3],
                            .qkv = arrays.floats_or_halves(3 * rows * width, fast),
                            .out = arrays.floats_or_halves(rows * width, fast),
                            .row_max = arrays.floats(rows * n[2]),
                            .inverse_sum = arrays.floats(rows * n[2]),
                            .workspace = arrays.floats(ops.attention_workspace(rows * n[2], n[1], n[3]))};
  return [&ops, op] { ops.attention_forward(op); };
}

Call attention_backward(bool fast, Ops& ops, Arrays& arrays, const Sizes& n) {
  const size_t rows = n[0] * n[1], width = n[2] * n[3];
  const AttentionBackward op{.sequences = n[0],
                             .context = n[1],
                             .heads = n[2],
                             .kv_heads = n[2],
                             .head_size = n[3],
                             .qkv = arrays.floats_or_halves(3 * rows * width, fast),
                             .out = arrays.floats_or_halves(rows * width, fast),
                             .row_max = arrays.positive(rows * n[2]),
                             .inverse_sum = arrays.positive(rows * n[2]),
                             .dout = arrays.floats_or_halves(rows * width, fast),
                             .dqkv = arrays.floats_or_halves(3 * rows * width, fast),
                             .workspace = arrays.floats(ops.attention_workspace(rows * n[2], n[1], n[3]))};
  return [&ops, op] { ops.attention_backward(op); };
}

Operations products_and_attention() {
  using std::placeholders::_1, std::placeholders::_2, std::placeholders::_3;
  return {
      {"matmul_forward", {3, std::bind(matmul, Form::forward, _1, _2, _3)}},
      {"matmul_dx", {3, std::bind(matmul, Form::input_gradient, _1, _2, _3)}},
      {"matmul_dw", {3, std::bind(matmul, Form::weight_gradient, _1, _2, _3)}},
      {"fast_forward", {3, std::bind(fast_matmul, Form::forward, _1, _2, _3)}},
      {"fast_dx", {3, std::bind(fast_matmul, Form::input_gradient, _1, _2, _3)}},
      {"fast_dw", {3, std::bind(fast_matmul, Form::weight_gradient, _1, _2, _3)}},
      {"int8_forward", {3, std::bind(int8_matmul, Form::forward, _1, _2, _3)}},
      {"int8_dx", {3, std::bind(int8_matmul, Form::input_gradient, _1, _2, _3)}},
      {"int8_dw", {3, std::bind(int8_matmul, Form::weight_gradient, _1, _2, _3)}},
      {"attention_forward", {4, std::bind(attention_forward, false, _1, _2, _3)}},
      {"attention_backward", {4, std::bind(attention_backward, false, _1, _2, _3)}},
      {"fast_attention_forward", {4, std::bind(attention_forward, true, _1, _2, _3)}},
      {"fast_attention_backward", {4, std::bind(attention_backward, true, _1, _2, _3)}},
  };
}

const Operations& operations() {
  static const Operations all = [] {
    Operations both = products_and_attention();
    both.merge(memory_operations());
    return both;
  }();
  return all;
}

}  // namespace

double seconds_of_line(Ops& ops, const std::function<void()>& wait, const std::string& line) {
  std::istringstream words(line);
  std::string name;
  words >> name;
  const auto found = operations().find(name);
  if (found == operations().end()) throw std::invalid_argument("no operation " + name);
  Sizes sizes(found->second.sizes + 1);  // and how often
  for (size_t& size : sizes) {
    if (!(words >> size) || size == 0) throw std::invalid_argument(name + ": " + line);
  }
  Arrays arrays(ops);
  const Call call = found->second.prepare(ops, arrays, sizes);
  call();  // loads its code
  wait();
  const double begin = now();
  for (size_t i = 0; i < sizes.back(); ++i) call();
  wait();
  return (now() - begin) / static_cast<double>(sizes.back());
}

}  // namespace kernels::bench
