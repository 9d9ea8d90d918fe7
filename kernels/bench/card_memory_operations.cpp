#include "bench/card_memory_operations.h"

#include <algorithm>
#include <memory>

#include "bench/adamw_step.h"

namespace kernels::bench {
namespace {

Call layer_norm_forward(bool fast, Ops& ops, Arrays& arrays, const Sizes& n) {
  const LayerNormForward op{.rows = n[0],
                            .channels = n[1],
                            .epsilon = 1e-5f,
                            .x = arrays.floats(n[0] * n[1]),
                            .weight = arrays.floats(n[1]),
                            .bias = arrays.floats(n[1]),
                            .y = arrays.floats_or_halves(n[0] * n[1], fast),
                            .mean = arrays.floats(n[0]),
                            .rstd = arrays.floats(n[0])};
  return [&ops, op] { ops.layer_norm_forward(op); };
}

// The gradient of the residual stream is what it is added to, as in a model.
Call layer_norm_backward(bool fast, Ops& ops, Arrays& arrays, const Sizes& n) {
  float* const dx = arrays.floats(n[0] * n[1]);
  const LayerNormBackward op{.rows = n[0],
                             .channels = n[1],
                             .dy = arrays.floats_or_halves(n[0] * n[1], fast),
                             .x = arrays.floats(n[0] * n[1]),
                             .weight = arrays.floats(n[1]),
                             .mean = arrays.floats(n[0]),
                             .rstd = arrays.positive(n[0]),
                             .dresidual = dx,
                             .dx = dx,
                             .dx_halves = fast ? arrays.halves(n[0] * n[1]) : nullptr,
                             .dweight = arrays.floats(n[1]),
                             .dbias = arrays.floats(n[1])};
  return [&ops, op] { ops.layer_norm_backward(op); };
}

Call rms_norm_forward(bool fast, Ops& ops, Arrays& arrays, const Sizes& n) {
  const RmsNormForward op{.rows = n[0],
                          .channels = n[1],
                          .epsilon = 1e-5f,
                          .x = arrays.floats(n[0] * n[1]),
                          .weight = arrays.floats(n[1]),
                          .y = arrays.floats_or_halves(n[0] * n[1], fast),
                          .rstd = arrays.floats(n[0])};
  return [&ops, op] { ops.rms_norm_forward(op); };
}

Call rms_norm_backward(bool fast, Ops& ops, Arrays& arrays, const Sizes& n) {
  float* const dx = arrays.floats(n[0] * n[1]);
  const RmsNormBackward op{.rows = n[0],
                           .channels = n[1],
                           .dy = arrays.floats_or_halves(n[0] * n[1], fast),
                           .x = arrays.floats(n[0] * n[1]),
                           .weight = arrays.floats(n[1]),
                           .rstd = arrays.positive(n[0]),
                           .dresidual = dx,
                           .dx = dx,
                           .dx_halves = fast ? arrays.halves(n[0] * n[1]) : nullptr,
                           .dweight = arrays.floats(n[1])};
  return [&ops, op] { ops.rms_norm_backward(op); };
}

Call swiglu_forward(bool fast, Ops& ops, Arrays& arrays, const Sizes& n) {
  const SwigluForward op{.rows = n[0],
                         .inner = n[1],
                         .gate_up = arrays.floats_or_halves(2 * n[0] * n[1], fast),
                         .y = arrays.floats_or_halves(n[0] * n[1], fast)};
  return [&ops, op] { ops.swiglu_forward(op); };
}

Call swiglu_backward(bool fast, Ops& ops, Arrays& arrays, const Sizes& n) {
  const SwigluBackward op{.rows = n[0],
                          .inner = n[1],
                          .gate_up = arrays.floats_or_halves(2 * n[0] * n[1], fast),
                          .dy = arrays.floats_or_halves(n[0] * n[1], fast),
                          .dgate_up = arrays.floats_or_halves(2 * n[0] * n[1], fast)};
  return [&ops, op] { ops.swiglu_backward(op); };
}

// Of queries and keys; a row holds the values, too.
Call rope(bool back, bool fast, Ops& ops, Arrays& arrays, const Sizes& n) {
  const size_t tokens = n[0], context = n[1], heads = n[2], kv_heads = n[3], head_size = n[4];
  const size_t row = (heads + 2 * kv_heads) * head_size;
  const Rope op{.tokens = tokens,
                .context = context,
                .heads = heads + kv_heads,
                .head_size = head_size,
                .row = row,
                .cos = arrays.floats(context * head_size / 2),
                .sin = arrays.floats(context * head_size / 2),
                .x = arrays.floats_or_halves(tokens * row, fast),
                .back = back};
  return [&ops, op] { ops.rope(op); };
}

// With positions, as a GPT-2 has them.
Call embedding_forward(Ops& ops, Arrays& arrays, const Sizes& n) {
  const size_t tokens = n[0], context = n[1], vocabulary = n[2], channels = n[3];
  const EmbeddingForward op{.tokens = tokens,
                            .channels = channels,
                            .context = context,
                            .ids = arrays.tokens(vocabulary, tokens),
                            .wte = arrays.floats(vocabulary * channels),
                            .wpe = arrays.floats(context * channels),
                            .out = arrays.floats(tokens * channels)};
  return [&ops, op] { ops.embedding_forward(op); };
}

Call embedding_backward(Ops& ops, Arrays& arrays, const Sizes& n) {
  const size_t tokens = n[0], context = n[1], vocabulary = n[2], channels = n[3];
  const EmbeddingBackward op{.tokens = tokens,
                             .channels = channels,
                             .context = context,
                             .vocabulary = vocabulary,
                             .ids = arrays.tokens(vocabulary, tokens),
                             .dout = arrays.floats(tokens * channels),
                             .dwte = arrays.floats(vocabulary * channels),
                             .dwpe = arrays.floats(context * channels),
                             .workspace = arrays.floats(ops.embedding_workspace(vocabulary, channels) + 1)};
  return [&ops, op] { ops.embedding_backward(op); };
}

Call bias_backward(bool fast, Ops& ops, Arrays& arrays, const Sizes& n) {
  const BiasBackward op{
      .rows = n[0], .channels = n[1], .dy = arrays.floats_or_halves(n[0] * n[1], fast), .dbias = arrays.floats(n[1])};
  return [&ops, op] { ops.bias_backward(op); };
}

Call cross_entropy(bool fast, Ops& ops, Arrays& arrays, const Sizes& n) {
  const CrossEntropy op{.rows = n[0],
                        .vocabulary = n[1],
                        .row = n[1],
                        .logits = arrays.floats_or_halves(n[0] * n[1], fast),
                        .targets = arrays.below(n[1], n[0]),
                        .losses = arrays.floats(n[0]),
                        .scale_gradient = 1};
  return [&ops, op] { ops.cross_entropy(op); };
}

Quantise quantise(Arrays& arrays, const Sizes& n) {
  return {.rows = n[0],
          .columns = n[1],
          .row = n[1],
          .x = arrays.floats(n[0] * n[1]),
          .q = arrays.digits(n[0] * n[1]),
          .scales = arrays.floats(std::max(n[0], n[1]))};
}

Call quantise_rows(Ops& ops, Arrays& arrays, const Sizes& n) {
  return [&ops, op = quantise(arrays, n)] { ops.quantise_rows(op); };
}

// As the gradient of logits is quantised.
Call quantise_rows_two_digits(Ops& ops, Arrays& arrays, const Sizes& n) {
  Quantise op = quantise(arrays, n);
  op.low = arrays.digits(n[0] * n[1]);
  return [&ops, op] { ops.quantise_rows(op); };
}

Call quantise_columns(Ops& ops, Arrays& arrays, const Sizes& n) {
  Quantise op = quantise(arrays, n);
  op.row_factors = arrays.floats(n[0]);
  return [&ops, op] { ops.quantise_columns(op); };
}

Call adamw(Ops& ops, Arrays& arrays, const Sizes& n) {
  const float* const g = arrays.floats(n[0]);
  float *const w = arrays.floats(n[0]), *const m = arrays.floats(n[0]), *const v = arrays.positive(n[0]);
  const TensorEnd tensor{.end = n[0], .decays = true};
  return [&ops, tensor, g, w, m, v] { ops.adamw(adamw_step(tensor, g, w, m, v)); };
}

// Of the weights before a step.
Call round_to_halves(Ops& ops, Arrays& arrays, const Sizes& n) {
  const RoundToHalves op{.count = n[0], .x = arrays.floats(n[0]), .y = arrays.halves(n[0])};
  return [&ops, op] { ops.round_to_halves(op); };
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

// Of a result, to the host.
Call encode(Codec codec, Ops& ops, Arrays& arrays, const Sizes& n) {
  const float* const x = arrays.floats(n[0]);
  auto payload = std::make_shared<std::vector<uint8_t>>(encoded_bytes(codec, n[0]));
  return [&ops, x, codec, count = n[0], payload] {
    ops.encode({codec, count, x, payload->data(), payload->data() + scale_bytes(codec, count)});
  };
}

Call add(Ops& ops, Arrays& arrays, const Sizes& n) {
  const float* const x = arrays.floats(n[0]);
  float* const y = arrays.floats(n[0]);
  return [&ops, x, y, count = n[0]] { ops.add(x, y, count); };
}

Call subtract(Ops& ops, Arrays& arrays, const Sizes& n) {
  const float *const a = arrays.floats(n[0]), *const b = arrays.floats(n[0]);
  float* const out = arrays.floats(n[0]);
  return [&ops, a, b, out, count = n[0]] { ops.subtract(a, b, out, count); };
}

Call scale(Ops& ops, Arrays& arrays, const Sizes& n) {
  float* const y = arrays.floats(n[0]);
  return [&ops, y, count = n[0]] { ops.scale(-1, y, count); };
}

// The norm that a step clips.
Call sums_of_squares(Ops& ops, Arrays& arrays, const Sizes& n) {
  const float* const x = arrays.floats(n[0]);
  float* const sum = arrays.floats(1);
  return [&ops, x, sum, tensor = TensorEnd{.end = n[0]}] { ops.sums_of_squares(&tensor, 1, x, sum); };
}

Call first_non_finite(Ops& ops, Arrays& arrays, const Sizes& n) {
  const float* const x = arrays.floats(n[0]);
  return [&ops, x, count = n[0]] { ops.first_non_finite(x, count); };
}

Call gelu_forward(bool fast, Ops& ops, Arrays& arrays, const Sizes& n) {
  const GeluForward op{
      .count = n[0], .x = arrays.floats_or_halves(n[0], fast), .y = arrays.floats_or_halves(n[0], fast)};
  return [&ops, op] { ops.gelu_forward(op); };
}

Call gelu_backward(bool fast, Ops& ops, Arrays& arrays, const Sizes& n) {
  const GeluBackward op{.count = n[0],
                        .x = arrays.floats_or_halves(n[0], fast),
                        .dy = arrays.floats_or_halves(n[0], fast),
                        .dx = arrays.floats_or_halves(n[0], fast)};
  return [&ops, op] { ops.gelu_backward(op); };
}

Call rope_forward(bool fast, Ops& ops, Arrays& arrays, const Sizes& n) { return rope(false, fast, ops, arrays, n); }
Call rope_backward(bool fast, Ops& ops, Arrays& arrays, const Sizes& n) { return rope(true, fast, ops, arrays, n); }

// What there is of fp32, and by names with fast_ of halves.
struct OfBoth {
  const char* name;
  size_t sizes;
  Call (*prepare)(bool fast, Ops& ops, Arrays& arrays, const Sizes& n);
};
constexpr OfBoth of_both[] = {
    {"layer_norm_forward", 2, layer_norm_forward},
    {"layer_norm_backward", 2, layer_norm_backward},
    {"rms_norm_forward", 2, rms_norm_forward},
    {"rms_norm_backward", 2, rms_norm_backward},
    {"gelu_forward", 1, gelu_forward},
    {"gelu_backward", 1, gelu_backward},
    {"swiglu_forward", 2, swiglu_forward},
    {"swiglu_backward", 2, swiglu_backward},
    {"rope_forward", 5, rope_forward},
    {"rope_backward", 5, rope_backward},
    {"bias_backward", 2, bias_backward},
    {"cross_entropy", 2, cross_entropy},
};

}  // namespace

Operations memory_operations() {
  using std::placeholders::_1, std::placeholders::_2, std::placeholders::_3;
  Operations all = {
      {"copy", {1, copy}},
      {"read", {1, read}},
      {"round_to_halves", {1, round_to_halves}},
      {"leaf_hashes", {1, leaf_hashes}},
      {"encode_int4", {1, std::bind(encode, Codec::int4, _1, _2, _3)}},
      {"encode_int8", {1, std::bind(encode, Codec::int8, _1, _2, _3)}},
      {"add", {1, add}},
      {"subtract", {1, subtract}},
      {"scale", {1, scale}},
      {"sums_of_squares", {1, sums_of_squares}},
      {"first_non_finite", {1, first_non_finite}},
      {"adamw", {1, adamw}},
      {"quantise_rows", {2, quantise_rows}},
      {"quantise_rows_two_digits", {2, quantise_rows_two_digits}},
      {"quantise_columns", {2, quantise_columns}},
      {"embedding_forward", {4, embedding_forward}},
      {"embedding_backward", {4, embedding_backward}},
  };
  for (const auto& [name, sizes, prepare] : of_both) {
    for (const bool fast : {false, true}) {
      all[(fast ? "fast_" : "") + std::string(name)] = {
          sizes, [prepare, fast](Ops& ops, Arrays& arrays, const Sizes& n) { return prepare(fast, ops, arrays, n); }};
    }
  }
  return all;
}

}  // namespace kernels::bench
