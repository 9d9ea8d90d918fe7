// A lane of a work unit: the gradient of one batch, or H local AdamW steps. Written once over Ops.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/model_config.h"
#include "kernels/ops.h"
#include "kernels/profile.h"

namespace kernels {

// A loss or a tensor became infinite or NaN. what() names the step and the tensor.
class NumericFailure : public std::runtime_error {
 public:
  NumericFailure(std::string tensor, size_t step);
  const std::string tensor;  // parameter name, or "loss"
  const size_t step;         // 0-based local step
};

// Thrown out of a computation whose Cancel said stop.
class Cancelled : public std::runtime_error {
 public:
  Cancelled();
};

// Asked several times per layer, and within long matmuls; returns true to stop. Called from the computing thread.
using Cancel = std::function<bool()>;

// Rows of tokens: (batch, context + 1); a row's inputs are its first `context` tokens, its targets the last.
struct TokenBatch {
  size_t batch = 0, context = 0;
  std::span<const uint16_t> tokens;  // batch * (context + 1)
};

// Per-step numbers as they travel in a unit; see docs/numerics.md section 6.
struct AdamWStep {
  float decay = 1, step_size = 0, inv_sqrt_bc2 = 1;
};
struct LocalAdamW {
  float beta1 = 0, one_minus_beta1 = 0, beta2 = 0, one_minus_beta2 = 0, epsilon = 0;
  float max_grad_norm = 0;  // 0: no clip
  std::vector<AdamWStep> steps;
};

// Plans every buffer for one model, batch and context at construction; a step allocates nothing. What callers give and
// get lies in the host's memory, wherever ops computes; where ops has memory of its own, gradient() and local_steps()
// leave their result there if the span for it is empty. One thread at a time. A batch of a call has the planned context
// and at most the planned number of rows.
class Trainer {
 public:
  enum class Purpose {
    gradient,         // gradient(), without on_block
    block_gradients,  // gradient() with on_block: one more gradient-sized buffer
    local_steps,      // local_steps(): two moments and a gradient; the working weights live in `difference`
    evaluate          // evaluate() and logits(): no gradient, activations of one layer
  };

  struct Settings {
    Settings(Purpose for_what, bool again = false, Profile bits = Profile::exact_fp32)
        : purpose(for_what), recompute(again), profile(bits) {}

    bool operator==(const Settings&) const = default;

    Purpose purpose;
    // The backward pass computes each layer's activations again: the same bits, activation memory of one layer, about a
    // third more time.
    bool recompute;
    Profile profile;
    // Blocks that are computed at once, at most: the same bits but in `fast`, and activation memory of as many.
    size_t micro_batch = 1;
  };

  // ops must outlive the trainer. Throws std::invalid_argument for impossible shapes (context > positions,
  // zero sizes; in int8 more than int8_terms inputs or outputs of a linear layer, or tokens in a block; block_gradients
  // of a micro-batch other than 1), and for `fast` where ops does not compute it. A method that
  // the purpose did not plan for throws std::logic_error.
  Trainer(const ModelConfig& config, size_t batch, size_t context, Ops& ops, Settings settings);
  ~Trainer();

  // Bytes of all planned buffers (and of ops' own) in the memory that ops computes in, for the given shape, without
  // constructing one. Exact, but for a few hundred bytes a layer of bookkeeping. On the host, weights and results
  // belong to the caller and are not in it; a device's copies of them are.
  static size_t planned_bytes(const ModelConfig& config, size_t batch, size_t context, Ops& ops, Settings settings);

  // `settings` with the largest micro-batch, up to what ops wants, that needs at most `limit` planned bytes; with
  // recompute where even one block needs more.
  static Settings settings_within(size_t limit, const ModelConfig& config, size_t batch, size_t context, Ops& ops,
                                  Settings settings);

  size_t block_count() const;  // blocks in a batch of the planned size

  // Checks weights, throwing as the computations do, and copies them to the device that ops computes on, if any: once
  // for all computations that are then given these very ones, which until the next keep() must neither change nor go.
  void keep(std::span<const float> weights);

  // Gradient of the mean loss. gradients: (parameters), overwritten. on_block, where set, receives each block's own
  // gradient (flat, canonical order) in block order, valid until it returns; it lies where the result is to be.
  // Returns the loss.
  // All three computations throw NumericFailure, Cancelled, and std::invalid_argument for a batch of the wrong shape
  // or a token outside the vocabulary, naming its place; what they have written is then unspecified.
  using OnBlock = std::function<void(size_t block, std::span<const float> gradient)>;
  float gradient(std::span<const float> weights, const TokenBatch& batch, std::span<float> gradients,
                 const OnBlock& on_block = {}, const Cancel& cancel = {});

  // H local AdamW steps from `weights`; difference: (parameters) = weights - weights after H steps; it holds the
  // working weights meanwhile and must not overlap `weights`. next_batch(step) must return that step's rows, valid
  // until the next call. Returns each step's loss.
  using NextBatch = std::function<TokenBatch(size_t step)>;
  std::vector<float> local_steps(std::span<const float> weights, const LocalAdamW& optimiser,
                                 const NextBatch& next_batch, std::span<float> difference, const Cancel& cancel = {});

  // What the last computation left in the memory of ops; until the next.
  std::span<const float> result() const;

  // Mean loss of each block, R(losses of the block) / tokens of the block, in block order. A NumericFailure's step
  // is the block.
  std::vector<float> evaluate(std::span<const float> weights, const TokenBatch& batch, const Cancel& cancel = {});

  // Logits of the last token of one sequence of 1 to `context` tokens. logits: (vocabulary). Weights are not checked.
  void logits(std::span<const float> weights, std::span<const uint16_t> tokens, std::span<float> logits);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Adds lanes in the canonical tree, in whatever order they come: the bits are the same. Where they come in order, at
// most log2(lanes) + 1 sums are held; each lane that is late adds at most log2(lanes).
class LaneTree {
 public:
  // Values are in the memory of ops, also those that it is given; ops outlives it.
  LaneTree(size_t lanes, size_t count, Ops& ops);
  // Each lane once; its values are copied, or taken. Throws std::logic_error for one that was added or does not exist,
  // and what ops throws: the tree is of no use then.
  void add(size_t lane, std::span<const float> values);
  using Values = std::unique_ptr<float, std::function<void(float*)>>;
  void add(size_t lane, Values&& values);
  Values room() const;  // for a lane
  // After the last lane: the sum. Valid until destruction.
  std::span<const float> sum() const;
  Ops& ops() const { return ops_; }

  // How the sum is formed, where lanes that were not added lie elsewhere: values go onto a stack one after the other,
  // and `add` takes the upper two from it and puts their sum there.
  struct Term {
    enum class Kind { held, lane, add } kind;
    size_t number = 0;  // of the held sum, see held(), or of the lane
  };
  std::vector<Term> terms() const;
  std::span<const float> held(size_t number) const { return {sums_[number].values.get(), count_}; }
  size_t held_sums() const { return sums_.size(); }

  // Elements [first, first + out.size()) of the sum; that_of(lane) gives these elements of a lane that was not added.
  // In the host's memory.
  using PartOfLane = std::function<std::span<const float>(size_t lane)>;
  void part(size_t first, std::span<float> out, const PartOfLane& that_of) const;

 private:
  // Of the tree: so many lanes from the first on.
  struct Node {
    size_t first, lanes;
    bool operator==(const Node&) const = default;
  };
  struct Halves {
    Node left, right;
  };
  static Halves halves(Node node);
  Node parent(Node node) const;
  void insert(size_t lane, const float* values, Values own);
  void append_terms(Node node, std::vector<Term>& terms) const;

  const size_t lanes_, count_;
  Ops& ops_;
  std::vector<bool> added_;
  struct Sum {
    Node node;
    Values values;
  };
  std::vector<Sum> sums_;  // of nodes whose other half is missing
};

// sqrt(R over tensors of R(x*x)), tensors in canonical order, on the host. Throws NumericFailure with the given step
// where an element is not finite.
float norm_of(Ops& ops, const std::vector<Parameter>& parameters, std::span<const float> values, size_t step = 0);

// Throws NumericFailure naming the tensor with this element, which is not finite.
[[noreturn]] void refuse_element(const std::vector<Parameter>& parameters, size_t element, size_t step);

}  // namespace kernels
