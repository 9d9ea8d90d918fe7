#include "model/gpt2.h"

#include <algorithm>

namespace kernels {
namespace {

// A matmul is cut into rows of about this many multiplications, so that Cancel is heard within a second or so on
// a slow machine. Rows are independent: cutting changes no bit.
constexpr size_t multiplications_per_slice = size_t{1} << 32;
constexpr size_t slice_rows_multiple = 64;

void ask(const Cancel& cancel) {
  if (cancel && cancel()) throw Cancelled();
}

}  // namespace

Gpt2::Gpt2(const ModelConfig& config, size_t tokens, size_t context, bool with_backward, Ops& ops, Arena& arena)
    : config_(config), ops_(ops) {
  const size_t M = tokens, C = config.channels, F = config.inner, V = config.vocabulary;
  for (size_t index = 0; index < config.layers; ++index)
    layers_.push_back(with_backward || index == 0 ? plan_layer(M, arena) : layers_.front());
  output_ = with_backward ? arena.take<float>(M * C) : layers_.front().input;
  mean_ = arena.take<float>(M);
  rstd_ = arena.take<float>(M);
  final_ = arena.take<float>(M * C);
  normed_ = arena.take<float>(M * C);
  logits_ = arena.take<float>(M * V);
  attention_workspace_ = arena.take<float>(ops.attention_workspace(context, config.heads, C));
  if (!with_backward) return;
  dstream_ = arena.take<float>(M * C);
  dnarrow_ = arena.take<float>(M * C);
  dwide_ = arena.take<float>(M * std::max(3 * C, F));
  embedding_workspace_ = arena.take<float>(ops.embedding_workspace(V, C));
}

Gpt2::Layer Gpt2::plan_layer(size_t tokens, Arena& arena) const {
  const size_t M = tokens, C = config_.channels, H = config_.heads, F = config_.inner;
  Layer layer;
  layer.input = arena.take<float>(M * C);
  layer.mean_1 = arena.take<float>(M);
  layer.rstd_1 = arena.take<float>(M);
  layer.qkv = arena.take<float>(M * 3 * C);
  layer.row_max = arena.take<float>(M * H);
  layer.inverse_sum = arena.take<float>(M * H);
  layer.attention = arena.take<float>(M * C);
  layer.middle = arena.take<float>(M * C);
  layer.mean_2 = arena.take<float>(M);
  layer.rstd_2 = arena.take<float>(M);
  layer.hidden = arena.take<float>(M * F);
  layer.gelu = arena.take<float>(M * F);
  return layer;
}

void Gpt2::forward(const float* weights, const Block& block, const Cancel& cancel) {
  const size_t M = block.tokens(), C = config_.channels, F = config_.inner;
  const Tensors<const float> w(config_, weights);

  ops_.embedding_forward({.tokens = M,
                          .channels = C,
                          .context = block.context,
                          .ids = block.ids,
                          .wte = w.wte(),
                          .wpe = w.wpe(),
                          .out = layers_[0].input});
  for (size_t index = 0; index < config_.layers; ++index) {
    const Layer& a = layers_[index];
    const LayerTensors<const float> p = w.layer(index);
    float* next = index + 1 < config_.layers ? layers_[index + 1].input : output_;

    norm(a.input, p.ln_1_weight, p.ln_1_bias, a.mean_1, a.rstd_1, M, normed_);
    linear(normed_, p.attn_weight, p.attn_bias, nullptr, M, C, 3 * C, a.qkv, cancel);
    ops_.attention_forward({.sequences = block.sequences,
                            .context = block.context,
                            .heads = config_.heads,
                            .channels = C,
                            .qkv = a.qkv,
                            .out = a.attention,
                            .row_max = a.row_max,
                            .inverse_sum = a.inverse_sum,
                            .workspace = attention_workspace_});
    linear(a.attention, p.proj_weight, p.proj_bias, a.input, M, C, C, a.middle, cancel);

    norm(a.middle, p.ln_2_weight, p.ln_2_bias, a.mean_2, a.rstd_2, M, normed_);
    linear(normed_, p.fc_weight, p.fc_bias, nullptr, M, C, F, a.hidden, cancel);
    ops_.gelu_forward({.count = M * F, .x = a.hidden, .y = a.gelu});
    linear(a.gelu, p.fc_out_weight, p.fc_out_bias, a.middle, M, F, C, next, cancel);
  }
  norm(output_, w.ln_f_weight(), w.ln_f_bias(), mean_, rstd_, M, final_);
}

void Gpt2::logits(const float* weights, size_t row, float* logits) {
  const size_t C = config_.channels, V = config_.vocabulary;
  ops_.matmul({.m = 1,
               .n = V,
               .k = C,
               .a = final_ + row * C,
               .a_row = C,
               .b = Tensors<const float>(config_, weights).wte(),
               .b_row = 1,
               .b_col = C,
               .c = logits,
               .ldc = V});
}

void Gpt2::losses(const float* weights, const Block& block, float scale_gradient, float* losses, const Cancel& cancel) {
  const size_t M = block.tokens(), C = config_.channels, V = config_.vocabulary;
  matmul({.m = M,
          .n = V,
          .k = C,
          .a = final_,
          .a_row = C,
          .b = Tensors<const float>(config_, weights).wte(),
          .b_row = 1,
          .b_col = C,
          .c = logits_,
          .ldc = V},
         cancel);
  ops_.cross_entropy({.rows = M,
                      .vocabulary = V,
                      .logits = logits_,
                      .targets = block.targets,
                      .losses = losses,
                      .scale_gradient = scale_gradient});
}

void Gpt2::backward(const float* weights, const Block& block, const BlockGradient& gradient, const Cancel& cancel) {
  const size_t M = block.tokens(), C = config_.channels, F = config_.inner, V = config_.vocabulary;
  const Tensors<const float> w(config_, weights);
  const Tensors<float> g(config_, gradient.parameters);

  // The tied head: logits[n, v] = contraction over C of final[n], wte[v].
  matmul({.m = V,
          .n = C,
          .k = M,
          .a = logits_,
          .a_row = 1,
          .a_col = V,
          .b = final_,
          .b_row = C,
          .c = g.wte(),
          .ldc = C,
          .accumulate = true},
         cancel);
  matmul({.m = M, .n = C, .k = V, .a = logits_, .a_row = V, .b = w.wte(), .b_row = C, .c = dstream_, .ldc = C}, cancel);
  norm_backward(dstream_, output_, w.ln_f_weight(), mean_, rstd_, nullptr, M, dstream_, g.ln_f_weight(), g.ln_f_bias());

  for (size_t index = config_.layers; index-- > 0;) {
    const Layer& a = layers_[index];
    const LayerTensors<const float> p = w.layer(index);
    const LayerTensors<float> d = g.layer(index);

    linear_backward(a.gelu, p.fc_out_weight, dstream_, M, F, C, dwide_, d.fc_out_weight, d.fc_out_bias, cancel);
    ops_.gelu_backward({.count = M * F, .x = a.hidden, .dy = dwide_, .dx = dwide_});
    norm(a.middle, p.ln_2_weight, p.ln_2_bias, a.mean_2, a.rstd_2, M, normed_);
    linear_backward(normed_, p.fc_weight, dwide_, M, C, F, dnarrow_, d.fc_weight, d.fc_bias, cancel);
    norm_backward(dnarrow_, a.middle, p.ln_2_weight, a.mean_2, a.rstd_2, dstream_, M, dstream_, d.ln_2_weight,
                  d.ln_2_bias);

    linear_backward(a.attention, p.proj_weight, dstream_, M, C, C, dnarrow_, d.proj_weight, d.proj_bias, cancel);
    ops_.attention_backward({.sequences = block.sequences,
                             .context = block.context,
                             .heads = config_.heads,
                             .channels = C,
                             .qkv = a.qkv,
                             .out = a.attention,
                             .row_max = a.row_max,
                             .inverse_sum = a.inverse_sum,
                             .dout = dnarrow_,
                             .dqkv = dwide_,
                             .workspace = attention_workspace_});
    norm(a.input, p.ln_1_weight, p.ln_1_bias, a.mean_1, a.rstd_1, M, normed_);
    linear_backward(normed_, p.attn_weight, dwide_, M, C, 3 * C, dnarrow_, d.attn_weight, d.attn_bias, cancel);
    norm_backward(dnarrow_, a.input, p.ln_1_weight, a.mean_1, a.rstd_1, dstream_, M, dstream_, d.ln_1_weight,
                  d.ln_1_bias);
  }
  ops_.embedding_backward({.tokens = M,
                           .channels = C,
                           .context = block.context,
                           .vocabulary = V,
                           .ids = block.ids,
                           .dout = dstream_,
                           .dwte = gradient.embedding,
                           .dwpe = g.wpe(),
                           .workspace = embedding_workspace_});
}

void Gpt2::norm(const float* x, const float* weight, const float* bias, float* mean, float* rstd, size_t rows,
                float* y) {
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

void Gpt2::norm_backward(const float* dy, const float* x, const float* weight, const float* mean, const float* rstd,
                         const float* dresidual, size_t rows, float* dx, float* dweight, float* dbias) {
  ops_.layer_norm_backward({.rows = rows,
                            .channels = config_.channels,
                            .dy = dy,
                            .x = x,
                            .weight = weight,
                            .mean = mean,
                            .rstd = rstd,
                            .dresidual = dresidual,
                            .dx = dx,
                            .dweight = dweight,
                            .dbias = dbias});
}

// y = x·W + bias (+ residual); x: (rows, inputs), W: (inputs, outputs).
void Gpt2::linear(const float* x, const float* weight, const float* bias, const float* residual, size_t rows,
                  size_t inputs, size_t outputs, float* y, const Cancel& cancel) {
  matmul({.m = rows,
          .n = outputs,
          .k = inputs,
          .a = x,
          .a_row = inputs,
          .b = weight,
          .b_row = outputs,
          .c = y,
          .ldc = outputs,
          .bias = bias,
          .residual = residual},
         cancel);
}

// dx = dy·Wᵀ; dweight += xᵀ·dy; dbias += sum of dy.
void Gpt2::linear_backward(const float* x, const float* weight, const float* dy, size_t rows, size_t inputs,
                           size_t outputs, float* dx, float* dweight, float* dbias, const Cancel& cancel) {
  matmul({.m = rows,
          .n = inputs,
          .k = outputs,
          .a = dy,
          .a_row = outputs,
          .b = weight,
          .b_row = 1,
          .b_col = outputs,
          .c = dx,
          .ldc = inputs},
         cancel);
  matmul({.m = inputs,
          .n = outputs,
          .k = rows,
          .a = x,
          .a_row = 1,
          .a_col = inputs,
          .b = dy,
          .b_row = outputs,
          .c = dweight,
          .ldc = outputs,
          .accumulate = true},
         cancel);
  ops_.bias_backward({.rows = rows, .channels = outputs, .dy = dy, .dbias = dbias});
}

void Gpt2::matmul(const Matmul& whole, const Cancel& cancel) {
  const size_t fit = multiplications_per_slice / (whole.n * whole.k);
  const size_t rows = std::max(fit / slice_rows_multiple, size_t{1}) * slice_rows_multiple;
  for (size_t first = 0; first < whole.m; first += rows) {
    ask(cancel);
    Matmul slice = whole;
    slice.m = std::min(rows, whole.m - first);
    slice.a += first * whole.a_row;
    slice.c += first * whole.ldc;
    if (whole.residual) slice.residual += first * whole.ldc;
    ops_.matmul(slice);
  }
}

}  // namespace kernels
