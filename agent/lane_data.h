// The rows of tokens that a unit trains on: what docs/protocol.md section 8 says, read from the unit's shards.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "files.h"
#include "kernels/training.h"
#include "protocol/messages.h"

namespace agent {

// Tokens [first, first + out.size()) of the unit's shard number `shard`. Called by any thread that computes.
using ReadTokens = std::function<void(size_t shard, uint64_t first, std::span<uint16_t> out)>;

// One batch at a time, in one buffer.
class LaneData {
 public:
  // Both must outlive this.
  LaneData(const protocol::Unit& unit, const ReadTokens& read_tokens);

  // lane: counted in the unit, from 0. Valid until the next call.
  kernels::TokenBatch batch(uint64_t lane, uint64_t step);
  kernels::TokenBatch evaluation_batch();

 private:
  void read_row(size_t row, size_t shard, uint64_t first);

  const protocol::Unit& unit_;
  const ReadTokens& read_tokens_;
  std::vector<uint16_t> tokens_;  // (batch, context + 1)
};

// Shard files (uint16, little-endian) as a ReadTokens: rows are read where they lie, nothing is kept in memory.
class ShardFiles {
 public:
  explicit ShardFiles(const std::vector<std::filesystem::path>& files);
  void read(size_t shard, uint64_t first, std::span<uint16_t> out) const;

 private:
  std::vector<std::unique_ptr<File>> files_;
};

}  // namespace agent
