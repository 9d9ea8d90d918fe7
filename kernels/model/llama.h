// LLaMA (Hugging Face's LlamaForCausalLM).
#pragma once

#include <vector>

#include "model/head.h"
#include "model/linear.h"
#include "model/network.h"

namespace kernels {

class Llama final : public Network {
 public:
  Llama(const ModelConfig& config, const NetworkPlan& plan, Ops& ops, Arena& arena);

  void prepare(const float* weights) override;
  void forward(const float* weights, const MicroBatch& batch, const Cancel& cancel) override;
  void logits(const float* weights, size_t row, float* logits) override;
  void losses(const float* weights, const MicroBatch& batch, float scale_gradient, float* losses,
              const Cancel& cancel) override;
  void backward(const float* weights, const MicroBatch& batch, const GradientSums& gradient,
                const Cancel& cancel) override;

 private:
  // What backward() needs of a layer. Without backward, and where it recomputes, all layers share one set.
  struct Layer {
    FloatsOrHalves
        normed_1;        // (M, C) the first norm's output, in fast; else all share one, which backward() makes again
    float* rstd_1;       // (M)
    FloatsOrHalves qkv;  // (M, E), q and k rotated
    float* row_max;      // (M, H) elements; see AttentionForward
    float* inverse_sum;  // (M, H)
    FloatsOrHalves attention;  // (M, C)
    float* middle;             // (M, C) residual stream after attention
    FloatsOrHalves normed_2;   // likewise
    float* rstd_2;             // (M)
    FloatsOrHalves gate_up;    // (M, 2F)
    FloatsOrHalves hidden;     // (M, F) after SwiGLU
  };

  struct Linears {
    Linears(const ModelConfig& config, size_t qkv_outputs, const LinearPlan& plan, const Linears* same_inputs);

    Linear qkv, projection, gate_up, down;
  };

  void write_rope_table(size_t context);
  // same_hidden: a layer whose memory of hidden serves this one too, or null.
  Layer plan_layer(size_t tokens, const Layer* same_hidden, Arena& arena) const;
  void forward_layer(size_t index, const float* weights, const MicroBatch& batch, const Cancel& cancel);
  void backward_layer(size_t index, const float* weights, const MicroBatch& batch, float* gradient,
                      const Cancel& cancel);
  void norm(const float* x, const float* weight, float* rstd, size_t rows, FloatsOrHalves y);
  void norm_backward(ConstFloatsOrHalves dy, const float* x, const float* weight, const float* rstd,
                     const float* dresidual, size_t rows, float* dweight);
  void rotate(const MicroBatch& batch, FloatsOrHalves qkv, bool back);

  const ModelConfig config_;
  const size_t block_;  // tokens of a full block
  const bool recompute_, fast_;
  const size_t qkv_outputs_;  // E = (H + 2K)·D
  Ops& ops_;
  Head head_;
  std::vector<Linears> linears_;
  std::vector<Layer> layers_;
  std::vector<float*> streams_;  // (M, C) each: the residual stream before each layer and after the last
  float* rstd_;                  // (M)
  FloatsOrHalves final_;         // (M, C) after the final norm
  FloatsOrHalves normed_;        // (M, C) what the layers share; null in fast
  float* cos_;                   // (T, D / 2)
  float* sin_;                   // (T, D / 2)
  float* dstream_ = nullptr;     // (M, C) gradient of the residual stream
  FloatsOrHalves dproduct_;      // (M, C) dstream_ as products have it: itself, or as halves
  FloatsOrHalves dnarrow_;       // (M, max(C, F))
  FloatsOrHalves dwide_;         // (M, max(E, 2F))
  float* attention_workspace_;   // Ops::attention_workspace()
  float* embedding_workspace_ = nullptr;
};

}  // namespace kernels
