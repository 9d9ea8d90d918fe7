#include "model/llama.h"

#include <algorithm>

#include "model/llama_tensors.h"
#include "model/rope_table.h"

namespace kernels {
namespace {

constexpr auto llama_layout = Linear::Layout::outputs_inputs;

}  // namespace

Llama::Linears::Linears(const ModelConfig& config, size_t qkv_outputs, const LinearPlan& plan, const Linears* same)
    : qkv(config.channels, qkv_outputs, llama_layout, plan, same ? &same->qkv : nullptr),
      projection(config.channels, config.channels, llama_layout, plan, same ? &same->projection : nullptr),
      gate_up(config.channels, 2 * config.inner, llama_layout, plan, same ? &same->gate_up : nullptr),
      down(config.inner, config.channels, llama_layout, plan, same ? &same->down : nullptr) {}

Llama::Llama(const ModelConfig& config, const NetworkPlan& plan, Ops& ops, Arena& arena)
    : config_(config),
      block_(plan.block),
      recompute_(plan.recompute),
      fast_(plan.profile == Profile::fast),
      qkv_outputs_((config.heads + 2 * config.kv_heads) * config.head_size()),
      ops_(ops),
      head_(config, plan, ops, arena) {
  const size_t M = plan.tokens, C = config.channels, F = config.inner, pairs = config.head_size() / 2;
  const bool own = plan.backward && !plan.recompute;
  const Arithmetic arithmetic = arithmetic_of(plan.profile);
  const LinearPlan linear(arithmetic, plan, std::max({qkv_outputs_, C, 2 * F}), ops, arena);
  linear.require_terms("hidden_size", C, plan.backward ? std::max(qkv_outputs_, C) : C);
  linear.require_terms("intermediate_size", F, plan.backward ? 2 * F : F);
  if (!fast_) normed_ = arena.take<float>(M * C);
  linears_.reserve(config.layers);
  for (size_t index = 0; index < config.layers; ++index) {
    // backward() in int8 has the digits of hidden.
    const Layer* same = !is_int8(arithmetic) || index == 0 ? nullptr : &layers_.front();
    layers_.push_back(own || index == 0 ? plan_layer(M, same, arena) : layers_.front());
    linears_.emplace_back(config, qkv_outputs_, linear, own || index == 0 ? nullptr : &linears_.front());
  }
  for (size_t index = 0; index <= config.layers; ++index)
    streams_.push_back(plan.backward || index == 0 ? arena.take<float>(M * C) : streams_.front());
  rstd_ = arena.take<float>(M);
  final_ = arena.take_floats_or_halves(M * C, fast_);
  cos_ = arena.take<float>(plan.context * pairs);
  sin_ = arena.take<float>(plan.context * pairs);
  if (cos_) write_rope_table(plan.context);
  attention_workspace_ = arena.take<float>(ops.attention_workspace(M * config.heads, plan.context, config.head_size()));
  if (!plan.backward) return;
  dstream_ = arena.take<float>(M * C);
  dproduct_ = fast_ ? FloatsOrHalves(arena.take<uint16_t>(M * C)) : FloatsOrHalves(dstream_);
  dnarrow_ = arena.take_floats_or_halves(M * std::max(C, F), fast_);
  dwide_ = arena.take_floats_or_halves(M * std::max(qkv_outputs_, 2 * F), fast_);
  embedding_workspace_ = arena.take<float>(ops.embedding_workspace(config.vocabulary, C));
}

void Llama::write_rope_table(size_t context) {
  const size_t count = context * config_.rope_inverse_frequencies.size();
  std::vector<float> cos(count), sin(count);
  fill_rope_table(config_.rope_inverse_frequencies, context, cos.data(), sin.data());
  ops_.write(cos_, cos.data(), count * sizeof(float));
  ops_.write(sin_, sin.data(), count * sizeof(float));
}

Llama::Layer Llama::plan_layer(size_t tokens, const Layer* same_hidden, Arena& arena) const {
  const size_t M = tokens, C = config_.channels, H = config_.heads, F = config_.inner;
  Layer layer;
  layer.normed_1 = fast_ ? FloatsOrHalves(arena.take<uint16_t>(M * C)) : normed_;
  layer.normed_2 = fast_ ? FloatsOrHalves(arena.take<uint16_t>(M * C)) : normed_;
  layer.rstd_1 = arena.take<float>(M);
  layer.qkv = arena.take_floats_or_halves(M * qkv_outputs_, fast_);
  layer.row_max = arena.take<float>(M * H);
  layer.inverse_sum = arena.take<float>(M * H);
  layer.attention = arena.take_floats_or_halves(M * C, fast_);
  layer.middle = arena.take<float>(M * C);
  layer.rstd_2 = arena.take<float>(M);
  layer.gate_up = arena.take_floats_or_halves(M * 2 * F, fast_);
  layer.hidden = same_hidden ? same_hidden->hidden : arena.take_floats_or_halves(M * F, fast_);
  return layer;
}

void Llama::prepare(const float* weights) {
  const LlamaTensors<const float> w(config_, weights);
  for (size_t index = 0; index < config_.layers; ++index) {
    const LlamaLayer<const float> p = w.layer(index);
    linears_[index].qkv.prepare(p.qkv_weight, nullptr);
    linears_[index].projection.prepare(p.o_weight, nullptr);
    linears_[index].gate_up.prepare(p.gate_up_weight, nullptr);
    linears_[index].down.prepare(p.down_weight, nullptr);
  }
  head_.prepare(w.head());
}

void Llama::forward(const float* weights, const MicroBatch& batch, const Cancel& cancel) {
  const LlamaTensors<const float> w(config_, weights);
  ops_.embedding_forward({.tokens = batch.tokens(),
                          .channels = config_.channels,
                          .context = batch.context,
                          .ids = batch.ids,
                          .wte = w.embedding(),
                          .out = streams_.front()});
  for (size_t index = 0; index < config_.layers; ++index) forward_layer(index, weights, batch, cancel);
  norm(streams_.back(), w.norm_weight(), rstd_, batch.tokens(), final_);
}

void Llama::forward_layer(size_t index, const float* weights, const MicroBatch& batch, const Cancel& cancel) {
  const size_t M = batch.tokens();
  const Layer& a = layers_[index];
  const Linears& linear = linears_[index];
  const LlamaLayer<const float> p = LlamaTensors<const float>(config_, weights).layer(index);

  norm(streams_[index], p.input_norm_weight, a.rstd_1, M, a.normed_1);
  linear.qkv.forward(a.normed_1, p.qkv_weight, nullptr, nullptr, M, a.qkv, cancel);
  rotate(batch, a.qkv, false);
  ops_.attention_forward({.sequences = batch.sequences,
                          .context = batch.context,
                          .heads = config_.heads,
                          .kv_heads = config_.kv_heads,
                          .head_size = config_.head_size(),
                          .qkv = a.qkv,
                          .out = a.attention,
                          .row_max = a.row_max,
                          .inverse_sum = a.inverse_sum,
                          .workspace = attention_workspace_});
  linear.projection.forward(a.attention, p.o_weight, nullptr, streams_[index], M, a.middle, cancel);

  norm(a.middle, p.attention_norm_weight, a.rstd_2, M, a.normed_2);
  linear.gate_up.forward(a.normed_2, p.gate_up_weight, nullptr, nullptr, M, a.gate_up, cancel);
  ops_.swiglu_forward({.rows = M, .inner = config_.inner, .gate_up = a.gate_up, .y = a.hidden});
  linear.down.forward(a.hidden, p.down_weight, nullptr, a.middle, M, streams_[index + 1], cancel);
}

void Llama::logits(const float* weights, size_t row, float* logits) {
  FloatsOrHalves of_row = final_;
  of_row += row * config_.channels;
  head_.logits(of_row, LlamaTensors<const float>(config_, weights).head(), logits);
}

void Llama::losses(const float* weights, const MicroBatch& batch, float scale_gradient, float* losses,
                   const Cancel& cancel) {
  head_.losses(final_, LlamaTensors<const float>(config_, weights).head(), batch, scale_gradient, losses, cancel);
}

void Llama::backward(const float* weights, const MicroBatch& batch, const GradientSums& gradient,
                     const Cancel& cancel) {
  const size_t M = batch.tokens();
  const LlamaTensors<const float> w(config_, weights);
  const LlamaTensors<float> g(config_, gradient.parameters);

  head_.backward(final_, w.head(), batch, dnarrow_, g.head(), cancel);
  norm_backward(dnarrow_, streams_.back(), w.norm_weight(), rstd_, nullptr, M, g.norm_weight());
  for (size_t index = config_.layers; index-- > 0;) {
    if (recompute_ && index + 1 < config_.layers) forward_layer(index, weights, batch, cancel);
    backward_layer(index, weights, batch, gradient.parameters, cancel);
  }
  ops_.embedding_backward({.tokens = M,
                           .channels = config_.channels,
                           .context = batch.context,
                           .vocabulary = config_.vocabulary,
                           .block = block_,
                           .ids = batch.ids,
                           .dout = dstream_,
                           .dwte = gradient.embedding,
                           .workspace = embedding_workspace_});
}

void Llama::backward_layer(size_t index, const float* weights, const MicroBatch& batch, float* gradient,
                           const Cancel& cancel) {
  const size_t M = batch.tokens();
  const Layer& a = layers_[index];
  const Linears& linear = linears_[index];
  const LlamaLayer<const float> p = LlamaTensors<const float>(config_, weights).layer(index);
  const LlamaLayer<float> d = LlamaTensors<float>(config_, gradient).layer(index);

  linear.down.backward(a.hidden, p.down_weight, dproduct_, M, dnarrow_, d.down_weight, nullptr, cancel);
  ops_.swiglu_backward({.rows = M, .inner = config_.inner, .gate_up = a.gate_up, .dy = dnarrow_, .dgate_up = dwide_});
  const bool norms_are_gone = !fast_ && linear.gate_up.needs_input();
  if (norms_are_gone) norm(a.middle, p.attention_norm_weight, a.rstd_2, M, a.normed_2);
  linear.gate_up.backward(a.normed_2, p.gate_up_weight, dwide_, M, dnarrow_, d.gate_up_weight, nullptr, cancel);
  norm_backward(dnarrow_, a.middle, p.attention_norm_weight, a.rstd_2, dstream_, M, d.attention_norm_weight);

  linear.projection.backward(a.attention, p.o_weight, dproduct_, M, dnarrow_, d.o_weight, nullptr, cancel);
  ops_.attention_backward({.sequences = batch.sequences,
                           .context = batch.context,
                           .heads = config_.heads,
                           .kv_heads = config_.kv_heads,
                           .head_size = config_.head_size(),
                           .qkv = a.qkv,
                           .out = a.attention,
                           .row_max = a.row_max,
                           .inverse_sum = a.inverse_sum,
                           .dout = dnarrow_,
                           .dqkv = dwide_,
                           .workspace = attention_workspace_});
  rotate(batch, dwide_, true);
  if (norms_are_gone) norm(streams_[index], p.input_norm_weight, a.rstd_1, M, a.normed_1);
  linear.qkv.backward(a.normed_1, p.qkv_weight, dwide_, M, dnarrow_, d.qkv_weight, nullptr, cancel);
  norm_backward(dnarrow_, streams_[index], p.input_norm_weight, a.rstd_1, dstream_, M, d.input_norm_weight);
}

void Llama::norm(const float* x, const float* weight, float* rstd, size_t rows, FloatsOrHalves y) {
  ops_.rms_norm_forward({.rows = rows,
                         .channels = config_.channels,
                         .epsilon = config_.norm_epsilon,
                         .x = x,
                         .weight = weight,
                         .y = y,
                         .rstd = rstd});
}

void Llama::norm_backward(ConstFloatsOrHalves dy, const float* x, const float* weight, const float* rstd,
                          const float* dresidual, size_t rows, float* dweight) {
  ops_.rms_norm_backward({.rows = rows,
                          .channels = config_.channels,
                          .block = block_,
                          .dy = dy,
                          .x = x,
                          .weight = weight,
                          .rstd = rstd,
                          .dresidual = dresidual,
                          .dx = dstream_,
                          .dx_halves = fast_ ? dproduct_.as_halves() : nullptr,
                          .dweight = dweight});
}

// The query and key heads of each token.
void Llama::rotate(const MicroBatch& batch, FloatsOrHalves qkv, bool back) {
  ops_.rope({.tokens = batch.tokens(),
             .context = batch.context,
             .heads = config_.heads + config_.kv_heads,
             .head_size = config_.head_size(),
             .row = qkv_outputs_,
             .cos = cos_,
             .sin = sin_,
             .x = qkv,
             .back = back});
}

}  // namespace kernels
