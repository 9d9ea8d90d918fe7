// Computes a unit: lanes one after the other, their tree sum, the encoded result and its commitments. Nothing but the
// unit, the weights and the tokens decides a bit of it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/training.h"
#include "protocol/digest.h"
#include "protocol/messages.h"

namespace agent {

// Tokens [first, first + out.size()) of the unit's shard number `shard`.
using ReadTokens = std::function<void(size_t shard, uint64_t first, std::span<uint16_t> out)>;
// Tokens of the unit that are done. Called from the computing thread.
using OnProgress = std::function<void(uint64_t tokens)>;

struct UnitResult {
  std::vector<uint8_t> blob;
  protocol::Digest digest{};  // of the blob
  protocol::Digest segments_root{};
  float loss = 0;
  uint64_t tokens = 0;
  double seconds = 0;
};

// How a unit is computed, and all the memory that it then plans, weights included.
struct UnitPlan {
  kernels::Trainer::Settings settings;
  uint64_t bytes = 0;
};

// One thread at a time.
class UnitRunner {
 public:
  using MakeOps = std::function<std::unique_ptr<kernels::Ops>()>;
  explicit UnitRunner(MakeOps make_ops);
  ~UnitRunner();

  // Of a unit that check_understood() took: the fastest plan of at most `limit` bytes, or the leanest where none fits.
  // The result's bits are the same.
  UnitPlan plan(const protocol::Unit& unit, const kernels::ModelConfig& config, uint64_t limit);

  // Throws kernels::NumericFailure, kernels::Cancelled, std::invalid_argument (a token outside the vocabulary), and
  // what read_tokens throws.
  UnitResult run(const protocol::Unit& unit, const kernels::ModelConfig& config, kernels::Trainer::Settings settings,
                 std::span<const float> weights, const ReadTokens& read_tokens, const OnProgress& on_progress,
                 const kernels::Cancel& cancel);

  // Buffers stay for the next unit of the same shape, until this. Gives the memory back to the system.
  void free_buffers();
  kernels::Ops& ops();

 private:
  struct Buffers;
  void plan_buffers(const protocol::Unit& unit, const kernels::ModelConfig& config,
                    kernels::Trainer::Settings settings);
  UnitResult train(const protocol::Unit& unit, const kernels::ModelConfig& config, std::span<const float> weights,
                   const ReadTokens& read_tokens, const OnProgress& on_progress, const kernels::Cancel& cancel);
  UnitResult evaluate(const protocol::Unit& unit, std::span<const float> weights, const ReadTokens& read_tokens,
                      const kernels::Cancel& cancel);

  const MakeOps make_ops_;
  std::unique_ptr<kernels::Ops> ops_;
  std::unique_ptr<Buffers> buffers_;
};

}  // namespace agent
