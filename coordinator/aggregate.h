// The mathematics of closing a round (docs/numerics.md section 6): clip, sum, outer step, update. Streams the model in
// chunks from files to files, so memory does not grow with the number of units.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "core.h"
#include "files.h"
#include "kernels/codec.h"
#include "kernels/ops.h"

namespace pool {

struct RoundInputs {
  struct Unit {
    std::span<const uint8_t> payload;  // encoded result, without the blob header
    float norm = 0;                    // of the decoded result
  };
  std::vector<Unit> units;                              // upward
  std::span<const float> weights;                       // of the round
  std::span<const float> momentum, variance, residual;  // after the round before; empty: zeros
};

struct RoundOutputs {
  StagedFile weights;  // model.safetensors of the next round
  StagedFile update;
  StagedFile momentum;
  std::optional<StagedFile> variance;  // outer adamw
  StagedFile residual;
  protocol::Digest state{};  // of momentum, variance, residual, concatenated
};

// The step left the range of fp32.
class NotFinite : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Of results and updates.
kernels::Codec codec_of(const Job& job);

// temporary_path names each file to write. Throws NotFinite; Failure when a file cannot be written.
RoundOutputs aggregate(const Job& job, uint64_t round, const RoundInputs& inputs, kernels::Ops& ops,
                       const std::function<std::filesystem::path()>& temporary_path);

}  // namespace pool
