// GPT-2 over Ops, one block of whole sequences at a time (docs/numerics.md sections 4 and 5).
// Shapes in comments: M tokens of the block, T context, C channels, H heads, F inner, V vocabulary.
#pragma once

#include <vector>

#include "kernels/model_config.h"
#include "kernels/ops.h"
#include "kernels/training.h"
#include "model/arena.h"

namespace kernels {

// The tensors of one layer inside a flat parameter vector; T is float or const float.
template <class T>
struct LayerTensors {
  T* ln_1_weight;    // (C)
  T* ln_1_bias;      // (C)
  T* attn_weight;    // (C, 3C)
  T* attn_bias;      // (3C)
  T* proj_weight;    // (C, C)
  T* proj_bias;      // (C)
  T* ln_2_weight;    // (C)
  T* ln_2_bias;      // (C)
  T* fc_weight;      // (C, F)
  T* fc_bias;        // (F)
  T* fc_out_weight;  // (F, C)
  T* fc_out_bias;    // (C)
};

// A flat parameter vector by name. Pointers only; follows the order of parameters_of().
template <class T>
class Tensors {
 public:
  Tensors(const ModelConfig& config, T* base) : config_(config), base_(base) {}

  T* wte() const { return base_; }                                          // (V, C)
  T* wpe() const { return base_ + config_.vocabulary * config_.channels; }  // (positions, C)
  LayerTensors<T> layer(size_t index) const {
    const size_t C = config_.channels, F = config_.inner;
    T* next = first_layer() + index * layer_count();
    auto take = [&next](size_t count) {
      T* here = next;
      next += count;
      return here;
    };
    return {take(C), take(C), take(C * 3 * C), take(3 * C), take(C * C), take(C),  // braces evaluate in order
            take(C), take(C), take(C * F),     take(F),     take(F * C), take(C)};
  }
  T* ln_f_weight() const { return first_layer() + config_.layers * layer_count(); }  // (C)
  T* ln_f_bias() const { return ln_f_weight() + config_.channels; }                  // (C)

 private:
  T* first_layer() const { return wpe() + config_.positions * config_.channels; }
  size_t layer_count() const {
    const size_t C = config_.channels, F = config_.inner;
    return 4 * C * C + 2 * C * F + F + 9 * C;
  }

  const ModelConfig& config_;
  T* base_;
};

// Whole sequences of one context length.
struct Block {
  size_t sequences = 0, context = 0;
  const uint16_t* ids = nullptr;      // (M)
  const uint16_t* targets = nullptr;  // (M)
  size_t tokens() const { return sequences * context; }
};

// Where a block's gradient is added to.
struct BlockGradient {
  float* parameters = nullptr;  // flat; its wte part takes the head's share
  float* embedding = nullptr;   // (V, C): the embedding's share of the tied tensor
};

class Gpt2 {
 public:
  // Plans the buffers for blocks of at most `tokens` tokens of at most `context` positions each.
  Gpt2(const ModelConfig& config, size_t tokens, size_t context, bool with_backward, Ops& ops, Arena& arena);

  // The network up to the final norm.
  void forward(const float* weights, const Block& block, const Cancel& cancel);

  // Logits of one row of the last forward(). logits: (V)
  void logits(const float* weights, size_t row, float* logits);

  // Losses of the last forward()'s tokens, (M). scale_gradient != 0 prepares backward().
  void losses(const float* weights, const Block& block, float scale_gradient, float* losses, const Cancel& cancel);

  // Adds the block's gradient; after forward() and losses() of the same weights and block.
  void backward(const float* weights, const Block& block, const BlockGradient& gradient, const Cancel& cancel);

 private:
  // What backward() needs of a layer. Without backward all layers share one set.
  struct Layer {
    float* input;        // (M, C) residual stream before the layer
    float* mean_1;       // (M)
    float* rstd_1;       // (M)
    float* qkv;          // (M, 3C)
    float* row_max;      // (M, H) elements; see AttentionForward
    float* inverse_sum;  // (M, H)
    float* attention;    // (M, C)
    float* middle;       // (M, C) residual stream after attention
    float* mean_2;       // (M)
    float* rstd_2;       // (M)
    float* hidden;       // (M, F) before GELU
    float* gelu;         // (M, F)
  };

  Layer plan_layer(size_t tokens, Arena& arena) const;
  void norm(const float* x, const float* weight, const float* bias, float* mean, float* rstd, size_t rows, float* y);
  void norm_backward(const float* dy, const float* x, const float* weight, const float* mean, const float* rstd,
                     const float* dresidual, size_t rows, float* dx, float* dweight, float* dbias);
  void linear(const float* x, const float* weight, const float* bias, const float* residual, size_t rows, size_t inputs,
              size_t outputs, float* y, const Cancel& cancel);
  void linear_backward(const float* x, const float* weight, const float* dy, size_t rows, size_t inputs, size_t outputs,
                       float* dx, float* dweight, float* dbias, const Cancel& cancel);
  void matmul(const Matmul& whole, const Cancel& cancel);

  const ModelConfig config_;
  Ops& ops_;
  std::vector<Layer> layers_;
  float* output_;               // (M, C) residual stream after the last layer
  float* mean_;                 // (M)
  float* rstd_;                 // (M)
  float* final_;                // (M, C) after the final norm
  float* normed_;               // (M, C) a norm's output, recomputed by backward()
  float* logits_;               // (M, V), then their gradient
  float* dstream_ = nullptr;    // (M, C) gradient of the residual stream
  float* dnarrow_ = nullptr;    // (M, C)
  float* dwide_ = nullptr;      // (M, max(3C, F))
  float* attention_workspace_;  // Ops::attention_workspace()
  float* embedding_workspace_ = nullptr;
};

}  // namespace kernels
