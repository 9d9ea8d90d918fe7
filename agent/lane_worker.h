// One engine of the rig, the CPU's or a card's, and the buffers that it computes units in.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/training.h"
#include "lane_data.h"
#include "protocol/digest.h"
#include "protocol/messages.h"

namespace agent {

struct LaneResult {
  std::vector<float> losses;               // step by step; of an evaluation, block by block
  std::vector<protocol::Digest> segments;  // in order; that of local steps is the result's
};

// Floats that are read from a card at once.
constexpr size_t piece_values = 2 << 20;

// What a unit asks of a trainer, without computing activations again.
kernels::Trainer::Settings settings_of(const protocol::Unit& unit);

// One thread at a time.
class LaneWorker {
 public:
  using MakeOps = std::function<std::unique_ptr<kernels::Ops>()>;
  // In `unit` stands which one it computes; what its operations say may use that, on the thread that computes.
  LaneWorker(std::string name, MakeOps make_ops, std::shared_ptr<std::string> unit = std::make_shared<std::string>());
  ~LaneWorker();

  const std::string& name() const { return name_; }
  kernels::Ops& ops();  // made when first asked for

  // What a pool is told of a card.
  struct Figures {
    double flops = 0;
    uint64_t bytes = 0;  // that plans may take
  };
  const Figures& measure();  // while it has no buffers
  const Figures& figures() const { return figures_; }

  // Buffers for a unit; those that are there stay where they fit. On a card, which knows its own memory, the fastest
  // settings that fit; where these compute activations twice and links have taken `linked` bytes of it, those that
  // would fit without. And `exchange` floats for passing results between cards where they fit beside. Throws
  // kernels::CudaOutOfMemory where these settings do not fit, or need more than `most` planned_bytes().
  void plan_buffers(const protocol::Unit& unit, const kernels::ModelConfig& config, kernels::Trainer::Settings settings,
                    size_t exchange = 0, uint64_t linked = 0, std::optional<uint64_t> most = {});
  // Of a card: what its trainer takes of its memory. 0 without buffers.
  uint64_t planned_bytes() const;
  // Null where it had no room.
  float* exchange_buffer() const;
  // Once for a unit: Trainer::keep().
  void take_weights(std::span<const float> weights);

  // A lane of the unit, or its evaluation. on_tokens: how many of its tokens are done. Throws what Trainer and
  // read_tokens throw.
  using OnTokens = std::function<void(uint64_t tokens)>;
  LaneResult compute(const protocol::Unit& unit, uint64_t lane, std::span<const float> weights,
                     const ReadTokens& read_tokens, const OnTokens& on_tokens, const kernels::Cancel& cancel);
  // What compute() gave, until it is called again: in the memory of the operations,
  std::span<const float> result() const;
  // and on the host, a piece of piece_values after the other; the last may be shorter.
  // A piece stays where it is until take() has returned for the next one. Throws what take() throws.
  using TakePiece = std::function<void(std::span<const float> piece)>;
  void read_result(const TakePiece& take);

  // Gives the memory of the buffers back; the CPU's engine ends as well.
  void free_buffers();

 private:
  struct Buffers;
  void plan_card(const protocol::Unit& unit, const kernels::ModelConfig& config, kernels::Trainer::Settings settings,
                 size_t exchange, uint64_t linked, std::optional<uint64_t> most);
  protocol::Digest segment_of(std::span<const float> values);
  LaneResult local_steps(const protocol::Unit& unit, uint64_t lane, std::span<const float> weights, LaneData& data,
                         const OnTokens& on_tokens, const kernels::Cancel& cancel);
  LaneResult gradient(const protocol::Unit& unit, uint64_t lane, std::span<const float> weights, LaneData& data,
                      const OnTokens& on_tokens, const kernels::Cancel& cancel);
  LaneResult evaluation(std::span<const float> weights, LaneData& data, const kernels::Cancel& cancel);

  const std::string name_;
  const MakeOps make_ops_;
  const std::shared_ptr<std::string> unit_;
  std::unique_ptr<kernels::Ops> ops_;
  Figures figures_;
  std::unique_ptr<Buffers> buffers_;
};

}  // namespace agent
