// The end of a network: logits over the vocabulary and their cross-entropy (docs/numerics.md section 5).
#pragma once

#include "model/linear.h"
#include "model/network.h"

namespace kernels {

class Head {
 public:
  Head(const ModelConfig& config, const NetworkPlan& plan, Ops& ops, Arena& arena);

  // Before the other methods with a weight that has changed. weight: (V, C), tied or not.
  void prepare(const float* weight) const { linear_.prepare(weight); }

  // x: (C), logits: (V).
  void logits(const float* x, const float* weight, float* logits) const;

  // x: (M, C), losses: (M). scale_gradient != 0 keeps the gradient of the logits for backward().
  void losses(const float* x, const float* weight, const MicroBatch& batch, float scale_gradient, float* losses,
              const Cancel& cancel);

  // dx: (M, C); dweight: (V, C), added to.
  void backward(const float* x, const float* weight, const MicroBatch& batch, float* dx, float* dweight,
                const Cancel& cancel);

 private:
  const size_t vocabulary_;
  Ops& ops_;
  const Linear linear_;
  float* logits_;  // (M, V), then their gradient
};

}  // namespace kernels
