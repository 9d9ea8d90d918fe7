// GPT-2 (Hugging Face's GPT2LMHeadModel).
#pragma once

#include <vector>

#include "model/head.h"
#include "model/linear.h"
#include "model/network.h"

namespace kernels {

class Gpt2 final : public Network {
 public:
  Gpt2(const ModelConfig& config, const NetworkPlan& plan, Ops& ops, Arena& arena);

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
    float* mean_1;       // (M)
    float* rstd_1;       // (M)
    FloatsOrHalves qkv;  // (M, 3C)
    float* row_max;      // (M, H) elements; see AttentionForward
    float* inverse_sum;  // (M, H)
    FloatsOrHalves attention;  // (M, C)
    float* middle;             // (M, C) residual stream after attention
    FloatsOrHalves normed_2;   // likewise
    float* mean_2;             // (M)
    float* rstd_2;             // (M)
    FloatsOrHalves hidden;     // (M, F) before GELU
    FloatsOrHalves gelu;       // (M, F)
  };

  struct Linears {
    Linears(const ModelConfig& config, const LinearPlan& plan, const Linears* same_inputs);

    Linear qkv, projection, widen, narrow;
  };

  // same_gelu: a layer whose memory of gelu serves this one too, or null.
  Layer plan_layer(size_t tokens, const Layer* same_gelu, Arena& arena) const;
  void forward_layer(size_t index, const float* weights, const MicroBatch& batch, const Cancel& cancel);
  void backward_layer(size_t index, const float* weights, const MicroBatch& batch, float* gradient,
                      const Cancel& cancel);
  void norm(const float* x, const float* weight, const float* bias, float* mean, float* rstd, size_t rows,
            FloatsOrHalves y);
  void norm_backward(ConstFloatsOrHalves dy, const float* x, const float* weight, const float* mean, const float* rstd,
                     const float* dresidual, size_t rows, float* dweight, float* dbias);

  const ModelConfig config_;
  const size_t block_;  // tokens of a full block
  const bool recompute_, fast_;
  Ops& ops_;
  Head head_;
  std::vector<Linears> linears_;
  std::vector<Layer> layers_;
  std::vector<float*> streams_;  // (M, C) each: the residual stream before each layer and after the last
  float* mean_;                  // (M)
  float* rstd_;                  // (M)
  FloatsOrHalves final_;         // (M, C) after the final norm
  FloatsOrHalves normed_;        // (M, C) what the layers share; null in fast
  float* dstream_ = nullptr;     // (M, C) gradient of the residual stream
  FloatsOrHalves dproduct_;      // (M, C) dstream_ as products have it: itself, or as halves
  FloatsOrHalves dnarrow_;       // (M, C)
  FloatsOrHalves dwide_;         // (M, max(3C, F))
  float* attention_workspace_;   // Ops::attention_workspace()
  float* embedding_workspace_ = nullptr;
};

}  // namespace kernels
