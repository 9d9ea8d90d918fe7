// The end of a network: logits over the vocabulary and their cross-entropy (docs/numerics.md section 5).
#pragma once

#include "model/linear.h"
#include "model/network.h"

namespace kernels {

// Elements from one row of logits, their gradient and the digits of that to the next: whatever the vocabulary, rows
// begin at whole groups of 16 bytes, which cards move at once.
inline size_t row_of_logits(size_t vocabulary) { return (vocabulary + 15) / 16 * 16; }

class Head {
 public:
  Head(const ModelConfig& config, const NetworkPlan& plan, Ops& ops, Arena& arena);

  // Before the other methods with a weight that has changed. weight: (V, C), tied or not.
  void prepare(const float* weight) const { linear_.prepare(weight, nullptr); }

  // x: (C), logits: (V), fp32.
  void logits(ConstFloatsOrHalves x, const float* weight, float* logits) const;

  // x: (M, C), losses: (M). scale_gradient != 0 keeps the gradient of the logits for backward().
  void losses(ConstFloatsOrHalves x, const float* weight, const MicroBatch& batch, float scale_gradient, float* losses,
              const Cancel& cancel);

  // dx: (M, C); dweight: (V, C), added to.
  void backward(ConstFloatsOrHalves x, const float* weight, const MicroBatch& batch, FloatsOrHalves dx, float* dweight,
                const Cancel& cancel);

 private:
  const size_t vocabulary_, row_;
  Ops& ops_;
  const Linear linear_;
  FloatsOrHalves logits_;  // (M, row_), then their gradient
};

}  // namespace kernels
