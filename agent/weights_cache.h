// The weights of one pool's jobs: the two newest rounds of each job as model.safetensors files, the current one in
// memory. A rig that holds round r makes round r + 1 from the update alone.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "blob_store.h"
#include "kernels/model_config.h"
#include "protocol/messages.h"

namespace agent {

// One thread at a time.
class WeightsCache {
 public:
  using Cancel = BlobStore::Cancel;

  // folder: the pool's cache folder, shared with `store`, which must outlive this.
  WeightsCache(std::filesystem::path folder, BlobStore& store);

  std::vector<protocol::HeldWeights> held() const;  // newest first
  // Bytes that materialise would download.
  uint64_t missing_bytes(const protocol::Unit& unit) const;

  // The unit's weights, their digest verified; they do not change as long as anyone holds them. Throws as
  // BlobStore::fetch; UnitRefused also where the updates do not lead to the digest (weights held from before are then
  // dropped).
  using Weights = std::shared_ptr<const std::vector<float>>;
  Weights materialise(PoolClient& client, const protocol::Unit& unit, const kernels::ModelConfig& config,
                      const Cancel& cancelled);
  // Of memory that holds weights for no unit.
  uint64_t unused_bytes() const;
  void free_memory();

 private:
  struct Loaded {
    std::string job;
    uint64_t round = 0;
    protocol::Digest digest{};  // verified
    std::shared_ptr<std::vector<float>> values;
  };

  std::filesystem::path file_of(const std::string& job, uint64_t round) const;
  std::optional<uint64_t> newest_base(const protocol::Unit& unit) const;
  bool build(PoolClient& client, const protocol::Unit& unit, const kernels::ModelConfig& config,
             std::optional<uint64_t> base, const Cancel& cancelled);
  void save(const protocol::Unit& unit, const std::string& header);
  void drop_job(const std::string& job);

  const std::filesystem::path folder_;
  BlobStore& store_;
  std::optional<Loaded> loaded_;
};

}  // namespace agent
