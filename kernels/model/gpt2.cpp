#include "model/gpt2.h"

#include <algorithm>

#include "model/gpt2_tensors.h"

namespace kernels {
namespace {

constexpr auto gpt2_layout = Linear::Layout::inputs_outputs;

}  // namespace

Gpt2::Linears::Linears(const ModelConfig& config, const LinearPlan& plan, const Linears* same)
    : qkv(config.channels, 3 * config.channels, gpt2_layout, plan, same ? &same->qkv : nullptr),
      projection(config.channels, config.channels, gpt2_layout, plan, same ? &same->projection : nullptr),
      widen(config.channels, config.inner, gpt2_layout, plan, same ? &same->widen : nullptr),
      narrow(config.inner, config.channels, gpt2_layout, plan, same ? &same->narrow : nullptr) {}

Gpt2::Gpt2(const ModelConfig& config, const NetworkPlan& plan, Ops& ops, Arena& arena)
    : config_(config),
      block_(plan.block),
      recompute_(plan.recompute),
      fast_(plan.profile == Profile::fast),
      ops_(ops),
      head_(config, plan, ops, arena) {
  const size_t M = plan.tokens, C = config.channels, F = config.inner;
  const bool own = plan.backward && !plan.recompute;
  const Arithmetic arithmetic = arithmetic_of(plan.profile);
  const LinearPlan linear(arithmetic, plan, std::max(3 * C, F), ops, arena);
  linear.require_terms("n_embd", C, plan.backward ? 3 * C : C);
  linear.require_terms("n_inner", F, F);
  if (!fast_) normed_ = arena.take<float>(M * C);
  linears_.reserve(config.layers);
  for (size_t index = 0; index < config.layers; ++index) {
    // backward() in int8 has the digits of gelu.
    const Layer* same = !is_int8(arithmetic) || index == 0 ? nullptr : &layers_.front();
    layers_.push_back(own || index == 0 ? plan_layer(M, same, arena) : layers_.front());
    linears_.emplace_back(config, linear, own || index == 0 ? nullptr : &linears_.front());
  }
  for (size_t index = 0; index <= config.layers; ++index)
    streams_.push_back(plan.backward || index == 0 ? arena.take<float>(M * C) : streams_.front());
  mean_ = arena.take<float>(M);
  rstd_ = arena.take<float>(M);
  final_ = arena.take_floats_or_halves(M * C, fast_);
  attention_workspace_ = arena.take<float>(ops.attention_workspace(M * config.heads, plan.context, config.head_size()));
  if (!plan.backward) return;
  dstream_ = arena.take<float>(M * C);
  dproduct_ = fast_ ? FloatsOrHalves(arena.take<uint16_t>(M * C)) : FloatsOrHalves(dstream_);
  dnarrow_ = arena.take_floats_or_halves(M * C, fast_);
  dwide_ = arena.take_floats_or_halves(M * std::max(3 * C, F), fast_);
  embedding_workspace_ = arena.take<float>(ops.embedding_workspace(config.vocabulary, C));
}

Gpt2::Layer Gpt2::plan_layer(size_t tokens, const Layer* same_gelu, Arena& arena) const {
  const size_t M = tokens, C = config_.channels, H = config_.heads, F = config_.inner;
  Layer layer;
  layer.normed_1 = fast_ ? FloatsOrHalves(arena.take<uint16_t>(M * C)) : normed_;
  layer.normed_2 = fast_ ? FloatsOrHalves(arena.take<uint16_t>(M * C)) : normed_;
  layer.mean_1 = arena.take<float>(M);
  layer.rstd_1 = arena.take<float>(M);
  layer.qkv = arena.take_floats_or_halves(M * 3 * C, fast_);
  layer.row_max = arena.take<float>(M * H);
  layer.inverse_sum = arena.take<float>(M * H);
  layer.attention = arena.take_floats_or_halves(M * C, fast_);
  layer.middle = arena.take<float>(M * C);
  layer.mean_2 = arena.take<float>(M);
  layer.rstd_2 = arena.take<float>(M);
  layer.hidden = arena.take_floats_or_halves(M * F, fast_);
  layer.gelu = same_gelu ? same_gelu->gelu : arena.take_floats_or_halves(M * F, fast_);
  return layer;
}

void Gpt2::prepare(const float* weights) {
  const Gpt2Tensors<const float> w(config_, weights);
  for (size_t index = 0; index < config_.layers; ++index) {
    const Gpt2Layer<const float> p = w.layer(index);
    linears_[index].qkv.prepare(p.attn_weight, p.attn_bias);
    linears_[index].projection.prepare(p.proj_weight, p.proj_bias);
    linears_[index].widen.prepare(p.fc_weight, p.fc_bias);
    linears_[index].narrow.prepare(p.fc_out_weight, p.fc_out_bias);
  }
  head_.prepare(w.wte());
}

void Gpt2::forward(const float* weights, const MicroBatch& batch, const Cancel& cancel) {
  const size_t M = batch.tokens(), C = config_.channels;
  const Gpt2Tensors<const float> w(config_, weights);
  ops_.embedding_forward({.tokens = M,
                          .channels = C,
                          .context = batch.context,
                          .ids = batch.ids,
                          .wte = w.wte(),
                          .wpe = w.wpe(),
                          .out = streams_.front()});
  for (size_t index = 0; index < config_.layers; ++index) forward_layer(index, weights, batch, cancel);
  norm(streams_.back(), w.ln_f_weight(), w.ln_f_bias(), mean_, rstd_, M, final_);
}

void Gpt2::forward_layer(size_t index, const float* weights, const MicroBatch& batch, const Cancel& cancel) {
  const size_t M = batch.tokens();
  const Layer& a = layers_[index];
  const Linears& linear = linears_[index];
  const Gpt2Layer<const float> p = Gpt2Tensors<const float>(config_, weights).layer(index);

  norm(streams_[index], p.ln_1_weight, p.ln_1_bias, a.mean_1, a.rstd_1, M, a.normed_1);
  linear.qkv.forward(a.normed_1, p.attn_weight, p.attn_bias, nullptr, M, a.qkv, cancel);
  ops_.attention_forward({.sequences = batch.sequences,
                          .context = batch.context,
                          .heads = config_.heads,
                          .kv_heads = config_.heads,
                          .head_size = config_.head_size(),
                          .qkv = a.qkv,
                          .out = a.attention,
                          .row_max = a.row_max,
                          .inverse_sum = a.inverse_sum,
                          .workspace = attention_workspace_});
  linear.projection.forward(a.attention, p.proj_weight, p.proj_bias, streams_[index], M, a.middle, cancel);

  norm(a.middle, p.ln_2_weight, p.ln_2_bias, a.mean_2, a.rstd_2, M, a.normed_2);
  linear.widen.forward(a.normed_2, p.fc_weight, p.fc_bias, nullptr, M, a.hidden, cancel, a.gelu);
  linear.narrow.forward(a.gelu, p.fc_out_weight, p.fc_out_bias, a.middle, M, streams_[index + 1], cancel);
}

void Gpt2::logits(const float* weights, size_t row, float* logits) {
  FloatsOrHalves of_row = final_;
  of_row += row * config_.channels;
  head_.logits(of_row, Gpt2Tensors<const float>(config_, weights).wte(), logits);
}

void Gpt2::losses(const float* weights, const MicroBatch& batch, float scale_gradient, float* losses,
                  const Cancel& cancel) {
  head_.losses(final_, Gpt2Tensors<const float>(config_, weights).wte(), batch, scale_gradient, losses, cancel);
}

void Gpt2::backward(const float* weights, const MicroBatch& batch, const GradientSums& gradient, const Cancel& cancel) {
  const size_t M = batch.tokens();
  const Gpt2Tensors<const float> w(config_, weights);
  const Gpt2Tensors<float> g(config_, gradient.parameters);

  head_.backward(final_, w.wte(), batch, dnarrow_, g.wte(), cancel);
  norm_backward(dnarrow_, streams_.back(), w.ln_f_weight(), mean_, rstd_, nullptr, M, g.ln_f_weight(), g.ln_f_bias());
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
                           .dwpe = g.wpe(),
                           .workspace = embedding_workspace_});
}

void Gpt2::backward_layer(size_t index, const float* weights, const MicroBatch& batch, float* gradient,
                          const Cancel& cancel) {
  const size_t M = batch.tokens();
  const Layer& a = layers_[index];
  const Linears& linear = linears_[index];
  const Gpt2Layer<const float> p = Gpt2Tensors<const float>(config_, weights).layer(index);
  const Gpt2Layer<float> d = Gpt2Tensors<float>(config_, gradient).layer(index);

  linear.narrow.backward(a.gelu, p.fc_out_weight, dproduct_, M, dwide_, d.fc_out_weight, d.fc_out_bias, cancel,
                         a.hidden);
  const bool norms_are_gone = !fast_ && linear.widen.needs_input();
  if (norms_are_gone) norm(a.middle, p.ln_2_weight, p.ln_2_bias, a.mean_2, a.rstd_2, M, a.normed_2);
  linear.widen.backward(a.normed_2, p.fc_weight, dwide_, M, dnarrow_, d.fc_weight, d.fc_bias, cancel);
  norm_backward(dnarrow_, a.middle, p.ln_2_weight, a.mean_2, a.rstd_2, dstream_, M, d.ln_2_weight, d.ln_2_bias);

  linear.projection.backward(a.attention, p.proj_weight, dproduct_, M, dnarrow_, d.proj_weight, d.proj_bias, cancel);
  ops_.attention_backward({.sequences = batch.sequences,
                           .context = batch.context,
                           .heads = config_.heads,
                           .kv_heads = config_.heads,
                           .head_size = config_.head_size(),
                           .qkv = a.qkv,
                           .out = a.attention,
                           .row_max = a.row_max,
                           .inverse_sum = a.inverse_sum,
                           .dout = dnarrow_,
                           .dqkv = dwide_,
                           .workspace = attention_workspace_});
  if (norms_are_gone) norm(streams_[index], p.ln_1_weight, p.ln_1_bias, a.mean_1, a.rstd_1, M, a.normed_1);
  linear.qkv.backward(a.normed_1, p.attn_weight, dwide_, M, dnarrow_, d.attn_weight, d.attn_bias, cancel);
  norm_backward(dnarrow_, streams_[index], p.ln_1_weight, a.mean_1, a.rstd_1, dstream_, M, d.ln_1_weight, d.ln_1_bias);
}

void Gpt2::norm(const float* x, const float* weight, const float* bias, float* mean, float* rstd, size_t rows,
                FloatsOrHalves y) {
  ops_.layer_norm_forward({.rows = rows,
                           .channels = config_.channels,
                           .epsilon = config_.norm_epsilon,
                           .x = x,
                           .weight = weight,
                           .bias = bias,
                           .y = y,
                           .mean = mean,
                           .rstd = rstd});
}

void Gpt2::norm_backward(ConstFloatsOrHalves dy, const float* x, const float* weight, const float* mean,
                         const float* rstd, const float* dresidual, size_t rows, float* dweight, float* dbias) {
  ops_.layer_norm_backward({.rows = rows,
                            .channels = config_.channels,
                            .block = block_,
                            .dy = dy,
                            .x = x,
                            .weight = weight,
                            .mean = mean,
                            .rstd = rstd,
                            .dresidual = dresidual,
                            .dx = dstream_,
                            .dx_halves = fast_ ? dproduct_.as_halves() : nullptr,
                            .dweight = dweight,
                            .dbias = dbias});
}

}  // namespace kernels
