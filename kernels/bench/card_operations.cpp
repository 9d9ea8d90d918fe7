#include "bench/card_operations.h"

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "bench/adamw_step.h"
#include "bench/measure.h"
#include "bench/products.h"

namespace kernels::bench {
namespace {

using Sizes = std::vector<size_t>;

// What an operation reads and writes, in the memory of its Ops; filled with random values, so that none is special.
class Arrays {
 public:
  explicit Arrays(Ops& ops) : ops_(ops) {}
  Arrays(const Arrays&) = delete;
  Arrays& operator=(const Arrays&) = delete;
  ~Arrays() {
    for (void* memory : taken_) ops_.free(memory);
  }

  float* floats(size_t count) {
    std::uniform_real_distribution<float> uniform(0.1f, 1);  // what is divided by, or a square root is taken of, too
    return take<float>(count, [&] { return random_() % 2 == 0 ? uniform(random_) : -uniform(random_); });
  }
  float* positive(size_t count) {
    std::uniform_real_distribution<float> uniform(0.1f, 1);
    return take<float>(count, [&] { return uniform(random_); });
  }
  int8_t* digits(size_t count) {
    return take<int8_t>(count, [&] { return static_cast<int8_t>(static_cast<int>(random_() % 255) - 127); });
  }
  uint16_t* below(size_t limit, size_t count) {
    return take<uint16_t>(count, [&] { return static_cast<uint16_t>(random_() % limit); });
  }

 private:
  template <typename T, typename Next>
  T* take(size_t count, const Next& next) {
    // A prime number of values over and over: random enough, and made in no time.
    std::vector<T> values(count);
    constexpr size_t period = 99'991;
    for (size_t i = 0; i < count; ++i) values[i] = i < period ? next() : values[i - period];
    taken_.push_back(ops_.allocate(count * sizeof(T)));
    ops_.write(taken_.back(), values.data(), count * sizeof(T));
    return static_cast<T*>(taken_.back());
  }

  Ops& ops_;
  std::mt19937 random_{1};
  std::vector<void*> taken_;
};

using Call = std::function<void()>;
struct Operation {
  size_t sizes;
  std::function<Call(Ops&, Arrays&, const Sizes&)> prepare;
};

void require_fast(bool fast, const Ops& ops) {
  if (fast && ops.half_precision() == HalfPrecision::none)
    throw std::invalid_argument("the card does not compute fast");
}

Call matmul(Form form, bool fast, Ops& ops, Arrays& arrays, const Sizes& n) {
  require_fast(fast, ops);
  Matmul op = product_of(form, n[0], n[1], n[2]);
  op.fast = fast;
  op.a = arrays.floats(op.m * op.k), op.b = arrays.floats(op.k * op.n), op.c = arrays.floats(op.m * op.n);
  if (fast) op.workspace = arrays.floats(ops.fast_workspace(op.m, op.k, op.n) / sizeof(float) + 1);
  return [&ops, op] { ops.matmul(op); };
}

Call int8_matmul(Form form, Ops& ops, Arrays& arrays, const Sizes& n) {
  const Matmul shape = product_of(form, n[0], n[1], n[2]);
  const Int8Matmul op{.m = shape.m,
                      .n = shape.n,
                      .k = shape.k,
                      .a = arrays.digits(shape.m * shape.k),
                      .a_row = shape.a_row,
                      .a_col = shape.a_col,
                      .a_scales = arrays.positive(shape.m),
                      .b = arrays.digits(shape.k * shape.n),
                      .b_row = shape.b_row,
                      .b_col = shape.b_col,
                      .b_scales = arrays.positive(shape.n),
                      .c = arrays.floats(shape.m * shape.n),
                      .ldc = shape.ldc,
                      .accumulate = shape.accumulate};
  return [&ops, op] { ops.int8_matmul(op); };
}

Call attention_forward(bool fast, Ops& ops, Arrays& arrays, const Sizes& n) {
  require_fast(fast, ops);
  const size_t rows = n[0] * n[1], width = n[2] * n[3];
  const AttentionForward op{.sequences = n[0],
                            .context = n[1],
                            .heads = n[2],
                            .kv_heads = n[2],
                            .head_size = n[3],
                            .qkv = arrays.floats(3 * rows * width),
                            .out = arrays.floats(rows * width),
                            .row_max = arrays.floats(rows * n[2]),
                            .inverse_sum = arrays.floats(rows * n[2]),
                            .workspace = arrays.floats(ops.attention_workspace(n[1], n[3]) + 1),
                            .fast = fast};
  return [&ops, op] { ops.attention_forward(op); };
}

Call attention_backward(bool fast, Ops& ops, Arrays& arrays, const Sizes& n) {
  require_fast(fast, ops);
  const size_t rows = n[0] * n[1], width = n[2] * n[3];
  const AttentionBackward op{.sequences = n[0],
                             .context = n[1],
                             .heads = n[2],
                             .kv_heads = n[2],
                             .head_size = n[3],
                             .qkv = arrays.floats(3 * rows * width),
                             .out = arrays.floats(rows * width),
                             .row_max = arrays.positive(rows * n[2]),
                             .inverse_sum = arrays.positive(rows * n[2]),
                             .dout = arrays.floats(rows * width),
                             .dqkv = arrays.floats(3 * rows * width),
                             .workspace = arrays.floats(ops.attention_workspace(n[1], n[3]) + 1),
                             .fast = fast};
  return [&ops, op] { ops.attention_backward(op); };
}

Call layer_norm_forward(Ops& ops, Arrays& arrays, const Sizes& n) {
  const LayerNormForward op{.rows = n[0],
                            .channels = n[1],
                            .epsilon = 1e-5f,
                            .x = arrays.floats(n[0] * n[1]),
                            .weight = arrays.floats(n[1]),
                            .bias = arrays.floats(n[1]),
                            .y = arrays.floats(n[0] * n[1]),
                            .mean = arrays.floats(n[0]),
                            .rstd = arrays.floats(n[0])};
  return [&ops, op] { ops.layer_norm_forward(op); };
}

Call layer_norm_backward(Ops& ops, Arrays& arrays, const Sizes& n) {
  const LayerNormBackward op{.rows = n[0],
                             .channels = n[1],
                             .dy = arrays.floats(n[0] * n[1]),
                             .x = arrays.floats(n[0] * n[1]),
                             .weight = arrays.floats(n[1]),
                             .mean = arrays.floats(n[0]),
                             .rstd = arrays.positive(n[0]),
                             .dx = arrays.floats(n[0] * n[1]),
                             .dweight = arrays.floats(n[1]),
                             .dbias = arrays.floats(n[1])};
  return [&ops, op] { ops.layer_norm_backward(op); };
}

Call bias_backward(Ops& ops, Arrays& arrays, const Sizes& n) {
  const BiasBackward op{.rows = n[0], .channels = n[1], .dy = arrays.floats(n[0] * n[1]), .dbias = arrays.floats(n[1])};
  return [&ops, op] { ops.bias_backward(op); };
}

Call cross_entropy(Ops& ops, Arrays& arrays, const Sizes& n) {
  const CrossEntropy op{.rows = n[0],
                        .vocabulary = n[1],
                        .logits = arrays.floats(n[0] * n[1]),
                        .targets = arrays.below(n[1], n[0]),
                        .losses = arrays.floats(n[0]),
                        .scale_gradient = 1};
  return [&ops, op] { ops.cross_entropy(op); };
}

Call quantise_rows(Ops& ops, Arrays& arrays, const Sizes& n) {
  const Quantise op{.rows = n[0],
                    .columns = n[1],
                    .x = arrays.floats(n[0] * n[1]),
                    .q = arrays.digits(n[0] * n[1]),
                    .scales = arrays.floats(n[0])};
  return [&ops, op] { ops.quantise_rows(op); };
}

Call adamw(Ops& ops, Arrays& arrays, const Sizes& n) {
  const float* const g = arrays.floats(n[0]);
  float *const w = arrays.floats(n[0]), *const m = arrays.floats(n[0]), *const v = arrays.positive(n[0]);
  const TensorEnd tensor{.end = n[0], .decays = true};
  return [&ops, tensor, g, w, m, v] { ops.adamw(adamw_step(tensor, g, w, m, v)); };
}

Call copy(Ops& ops, Arrays& arrays, const Sizes& n) {
  float* const to = arrays.floats(n[0]);
  const float* const from = arrays.floats(n[0]);
  return [&ops, to, from, bytes = n[0] * sizeof(float)] { ops.copy(to, from, bytes); };
}

Call read(Ops& ops, Arrays& arrays, const Sizes& n) {
  const float* const from = arrays.floats(n[0]);
  return [&ops, from, to = std::make_shared<std::vector<float>>(n[0])] {
    ops.read(to->data(), from, to->size() * sizeof(float));
  };
}

// Of a segment's leaves.
Call leaf_hashes(Ops& ops, Arrays& arrays, const Sizes& n) {
  constexpr size_t leaf = 16'384, hash_bytes = 32;
  const float* const x = arrays.floats(n[0]);
  auto hashes = std::make_shared<std::vector<uint8_t>>((n[0] + leaf - 1) / leaf * hash_bytes);
  return [&ops, x, count = n[0], hashes] { ops.leaf_hashes(x, count, leaf, hashes->data()); };
}

Call add(Ops& ops, Arrays& arrays, const Sizes& n) {
  const float* const x = arrays.floats(n[0]);
  float* const y = arrays.floats(n[0]);
  return [&ops, x, y, count = n[0]] { ops.add(x, y, count); };
}

Call gelu_forward(Ops& ops, Arrays& arrays, const Sizes& n) {
  const GeluForward op{.count = n[0], .x = arrays.floats(n[0]), .y = arrays.floats(n[0])};
  return [&ops, op] { ops.gelu_forward(op); };
}

Call gelu_backward(Ops& ops, Arrays& arrays, const Sizes& n) {
  const GeluBackward op{.count = n[0], .x = arrays.floats(n[0]), .dy = arrays.floats(n[0]), .dx = arrays.floats(n[0])};
  return [&ops, op] { ops.gelu_backward(op); };
}

const std::map<std::string, Operation>& operations() {
  using std::placeholders::_1, std::placeholders::_2, std::placeholders::_3;
  static const std::map<std::string, Operation> all{
      {"copy", {1, copy}},
      {"read", {1, read}},
      {"leaf_hashes", {1, leaf_hashes}},
      {"add", {1, add}},
      {"gelu_forward", {1, gelu_forward}},
      {"gelu_backward", {1, gelu_backward}},
      {"adamw", {1, adamw}},
      {"layer_norm_forward", {2, layer_norm_forward}},
      {"layer_norm_backward", {2, layer_norm_backward}},
      {"bias_backward", {2, bias_backward}},
      {"cross_entropy", {2, cross_entropy}},
      {"quantise_rows", {2, quantise_rows}},
      {"matmul_forward", {3, std::bind(matmul, Form::forward, false, _1, _2, _3)}},
      {"matmul_dx", {3, std::bind(matmul, Form::input_gradient, false, _1, _2, _3)}},
      {"matmul_dw", {3, std::bind(matmul, Form::weight_gradient, false, _1, _2, _3)}},
      {"fast_forward", {3, std::bind(matmul, Form::forward, true, _1, _2, _3)}},
      {"fast_dx", {3, std::bind(matmul, Form::input_gradient, true, _1, _2, _3)}},
      {"fast_dw", {3, std::bind(matmul, Form::weight_gradient, true, _1, _2, _3)}},
      {"int8_forward", {3, std::bind(int8_matmul, Form::forward, _1, _2, _3)}},
      {"int8_dx", {3, std::bind(int8_matmul, Form::input_gradient, _1, _2, _3)}},
      {"int8_dw", {3, std::bind(int8_matmul, Form::weight_gradient, _1, _2, _3)}},
      {"attention_forward", {4, std::bind(attention_forward, false, _1, _2, _3)}},
      {"attention_backward", {4, std::bind(attention_backward, false, _1, _2, _3)}},
      {"fast_attention_forward", {4, std::bind(attention_forward, true, _1, _2, _3)}},
      {"fast_attention_backward", {4, std::bind(attention_backward, true, _1, _2, _3)}},
  };
  return all;
}

// Returns when all calls before have ended.
void wait(Ops& ops, const float* memory) {
  float value;
  ops.read(&value, memory, sizeof value);
}

}  // namespace

double seconds_of_line(Ops& ops, const std::string& line) {
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
  const float* const mark = arrays.floats(1);
  const Call call = found->second.prepare(ops, arrays, sizes);
  call();  // loads its code
  wait(ops, mark);
  const double begin = now();
  for (size_t i = 0; i < sizes.back(); ++i) call();
  wait(ops, mark);
  return (now() - begin) / static_cast<double>(sizes.back());
}

}  // namespace kernels::bench
