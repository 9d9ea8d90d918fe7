// A small job of a FakePool: weights, updates and data as published blobs, and leases of its units.
#pragma once

#include <cstring>
#include <vector>

#include "fake_pool.h"
#include "kernels/codec.h"
#include "kernels/files.h"
#include "kernels/model_config.h"
#include "protocol/blob.h"
#include "protocol/plan.h"

namespace agent {

struct TinyJob {
  explicit TinyJob(fakes::FakePool& fake, size_t inner = 64) : pool(fake) {
    config.inner = inner;
    rounds.emplace_back(kernels::parameter_count(config));
    kernels::initialise_weights(config, 5, rounds[0].data());
    checkpoint = {0, pool.publish_reference(checkpoint_bytes(0))};
    std::vector<uint16_t> tokens(400);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<uint16_t>(i * i % config.vocabulary);
    std::vector<uint8_t> bytes(2 * tokens.size());
    std::memcpy(bytes.data(), tokens.data(), bytes.size());
    shard = {pool.publish_reference(std::move(bytes)), tokens.size()};
  }

  std::vector<uint8_t> checkpoint_bytes(size_t round) const {
    const std::string header = kernels::safetensors_header(config);
    std::vector<uint8_t> bytes(header.begin(), header.end());
    const auto* values = reinterpret_cast<const uint8_t*>(rounds[round].data());
    bytes.insert(bytes.end(), values, values + rounds[round].size() * sizeof(float));
    return bytes;
  }
  protocol::Digest digest(size_t round) const { return protocol::sha256(checkpoint_bytes(round)); }

  // Publishes the update that makes the next round's weights.
  void close_round(protocol::CodecId codec = protocol::CodecId::int4) {
    std::vector<float> change(rounds.back().size());
    for (size_t i = 0; i < change.size(); ++i) change[i] = 1e-3f * static_cast<float>((i + rounds.size()) % 17) - 5e-3f;
    const protocol::BlobHeader header = protocol::make_blob_header(protocol::BlobKind::update, codec, change.size());
    std::vector<uint8_t> blob(sizeof header + header.payload_bytes);
    std::memcpy(blob.data(), &header, sizeof header);
    const auto payload = std::span(blob).subspan(sizeof header);
    kernels::encode(static_cast<kernels::Codec>(codec), change, payload);
    kernels::decode(static_cast<kernels::Codec>(codec), payload, change.size(), 0, change);
    std::vector<float> next = rounds.back();
    for (size_t i = 0; i < next.size(); ++i) next[i] += change[i];
    rounds.push_back(std::move(next));
    updates.push_back({rounds.size() - 2, pool.publish_reference(std::move(blob)), digest(rounds.size() - 1)});
  }

  // A unit of the newest round; from the checkpoint where `from_checkpoint`, else updates from `first_update` on.
  protocol::Unit unit(bool from_checkpoint = true, size_t first_update = 0) const {
    protocol::Unit unit;
    unit.job = "tiny";
    unit.round = unit.base_round = rounds.size() - 1;
    unit.name = protocol::unit_name(unit.job, unit.round, protocol::UnitKind::train, 0);
    unit.profile = "exact-fp32/1";
    unit.codec = "int4";
    unit.model = kernels::to_json(config);
    unit.parameters = kernels::parameter_count(config);
    unit.weights.round = unit.round;
    unit.weights.digest = digest(unit.round);
    if (from_checkpoint) unit.weights.checkpoint = checkpoint;
    unit.weights.updates.assign(updates.begin() + static_cast<std::ptrdiff_t>(first_update), updates.end());
    unit.lanes = 2;
    unit.shards = {shard, shard};
    unit.seed = 9;
    unit.steps = 3;
    unit.batch = 2;
    unit.context = 7;
    unit.inner = protocol::inner_numbers({.lr = 1e-2}, unit.round, unit.steps);
    unit.tokens = unit.lanes * unit.steps * unit.batch * unit.context;
    unit.price = 83;
    unit.max_result_bytes = 1 << 20;
    return unit;
  }

  void lease(const protocol::Unit& unit, uint64_t attempt = 1) {
    pool.leases.push_back({protocol::Lease{std::string(32, 'a'), attempt, 60, 900, unit}, std::nullopt});
  }

  fakes::FakePool& pool;
  kernels::ModelConfig config{.layers = 1, .heads = 2, .channels = 16, .positions = 16, .vocabulary = 50, .inner = 64};
  std::vector<std::vector<float>> rounds;  // weights
  protocol::CheckpointReference checkpoint;
  std::vector<protocol::UpdateReference> updates;
  protocol::ShardReference shard;
};

}  // namespace agent
