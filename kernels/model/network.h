// A network over Ops, one micro-batch of whole blocks at a time (docs/numerics.md sections 4 to 6).
// Shapes in comments: M tokens of the micro-batch, T context, C channels, H heads, K key heads, D head size, F inner,
// V vocabulary.
#pragma once

#include <memory>

#include "kernels/model_config.h"
#include "kernels/ops.h"
#include "kernels/training.h"
#include "model/arena.h"

namespace kernels {

// Whole sequences of one context length: full blocks, the last perhaps not full.
struct MicroBatch {
  size_t sequences = 0, context = 0;
  const uint16_t* ids = nullptr;      // (M)
  const uint16_t* targets = nullptr;  // (M)
  size_t tokens() const { return sequences * context; }
};

// Where the blocks' gradients are added to, block by block.
struct GradientSums {
  float* parameters = nullptr;  // flat; a tied head's share goes to the token embedding here
  float* embedding = nullptr;   // (V, C): the embedding's own share
};

// What a network plans its buffers for.
struct NetworkPlan {
  size_t tokens = 0, context = 0;  // of a micro-batch, at most
  size_t block = 0;                // tokens of a full block
  bool backward = false;
  bool recompute = false;  // backward() computes a layer's activations again, which then need memory once
  Profile profile = Profile::exact_fp32;
  void* fast_workspace = nullptr;  // of FastMatmul, for all products; make_network() takes it
};

class Network {
 public:
  virtual ~Network() = default;

  // Before the other methods with weights that have changed.
  virtual void prepare(const float* weights) = 0;

  // The network up to the final norm.
  virtual void forward(const float* weights, const MicroBatch& batch, const Cancel& cancel) = 0;

  // Logits of one row of the last forward(). logits: (V)
  virtual void logits(const float* weights, size_t row, float* logits) = 0;

  // Losses of the last forward()'s tokens, (M). scale_gradient != 0 prepares backward().
  virtual void losses(const float* weights, const MicroBatch& batch, float scale_gradient, float* losses,
                      const Cancel& cancel) = 0;

  // Adds the gradient; after forward() and losses() of the same weights and micro-batch.
  virtual void backward(const float* weights, const MicroBatch& batch, const GradientSums& gradient,
                        const Cancel& cancel) = 0;
};

// The network of the config's family. Buffers come from the arena.
std::unique_ptr<Network> make_network(const ModelConfig& config, NetworkPlan plan, Ops& ops, Arena& arena);

}  // namespace kernels
