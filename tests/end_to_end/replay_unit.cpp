// Recomputes one unit from public inputs with the reference operations, sharing nothing with the agent but kernels.
//
// usage: replay_unit JOB.json UNIT WEIGHTS.safetensors SHARD_FOLDER [RESULT_FILE]
// SHARD_FOLDER holds the shards, each named by its digest. Prints {"result", "segments_root", "loss", "parameters"}.
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/codec.h"
#include "kernels/files.h"
#include "kernels/training.h"
#include "protocol/blob.h"
#include "protocol/plan.h"

namespace {

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  return {std::istreambuf_iterator<char>(file), {}};
}

template <class T>
std::vector<T> values_of(const std::string& bytes, size_t begin = 0) {
  std::vector<T> values((bytes.size() - begin) / sizeof(T));
  std::copy_n(bytes.data() + begin, values.size() * sizeof(T), reinterpret_cast<char*>(values.data()));
  return values;
}

struct Replay {
  const protocol::Unit& unit;
  const kernels::ModelConfig& config;
  const std::vector<float>& weights;
  std::vector<std::vector<uint16_t>> shards;
  kernels::Ops& ops;

  std::vector<protocol::Digest> segments;
  std::vector<float> losses;

  kernels::TokenBatch rows(uint64_t lane, uint64_t step, std::vector<uint16_t>& tokens) const {
    tokens.clear();
    const std::vector<uint16_t>& shard = shards[lane - unit.first_lane];
    for (uint64_t row = 0; row < unit.batch; ++row) {
      const auto begin = shard.begin() + static_cast<ptrdiff_t>(protocol::row_begin(unit.seed, unit.round, lane, step,
                                                                                    row, shard.size(), unit.context));
      tokens.insert(tokens.end(), begin, begin + static_cast<ptrdiff_t>(unit.context + 1));
    }
    return {unit.batch, unit.context, tokens};
  }

  kernels::Trainer::Settings settings(kernels::Trainer::Purpose purpose) const {
    return {purpose, false, kernels::profile_named(unit.profile).value()};
  }

  // One gradient; its segments are blocks.
  void gradient(uint64_t lane, std::vector<float>& out) {
    kernels::Trainer trainer(config, unit.batch, unit.context, ops,
                             settings(kernels::Trainer::Purpose::block_gradients));
    std::vector<uint16_t> tokens;
    losses.push_back(trainer.gradient(weights, rows(lane, 0, tokens), out, [&](size_t, std::span<const float> block) {
      segments.push_back(protocol::segment_digest(block));
    }));
  }

  // H local steps; the lane is the segment.
  void local_steps(uint64_t lane, std::vector<float>& out) {
    const protocol::InnerAdamW& inner = *unit.inner;
    kernels::LocalAdamW optimiser{inner.beta1,   inner.one_minus_beta1, inner.beta2, inner.one_minus_beta2,
                                  inner.epsilon, inner.max_grad_norm,   {}};
    for (const auto& step : inner.steps) optimiser.steps.push_back({step.decay, step.step_size, step.inv_sqrt_bc2});
    kernels::Trainer trainer(config, unit.batch, unit.context, ops, settings(kernels::Trainer::Purpose::local_steps));
    std::vector<uint16_t> tokens;
    const std::vector<float> lane_losses = trainer.local_steps(
        weights, optimiser, [&](size_t step) { return rows(lane, step, tokens); }, out);
    losses.insert(losses.end(), lane_losses.begin(), lane_losses.end());
    segments.push_back(protocol::segment_digest(out));
  }

  std::string train() {
    kernels::LaneTree tree(unit.lanes, weights.size(), ops);
    std::vector<float> lane_result(weights.size());
    for (uint64_t lane = unit.first_lane; lane < unit.first_lane + unit.lanes; ++lane) {
      unit.inner ? local_steps(lane, lane_result) : gradient(lane, lane_result);
      tree.add(lane - unit.first_lane, lane_result);
    }
    const protocol::CodecId codec = protocol::codec_from_name(unit.codec);
    return encoded(protocol::BlobKind::result, codec, tree.sum());
  }

  static std::string encoded(protocol::BlobKind kind, protocol::CodecId codec, std::span<const float> values) {
    const protocol::BlobHeader header = protocol::make_blob_header(kind, codec, values.size());
    const auto kernel_codec = static_cast<kernels::Codec>(codec);
    std::vector<uint8_t> payload(kernels::encoded_bytes(kernel_codec, values.size()));
    kernels::encode(kernel_codec, values, payload);
    std::string blob(reinterpret_cast<const char*>(&header), sizeof header);
    return blob.append(payload.begin(), payload.end());
  }
};

// JOB.ROUND.tINDEX
protocol::Unit planned(const protocol::JobDescription& job, const std::string& name) {
  const size_t dot = name.find('.'), kind = name.find(".t", dot + 1);
  if (dot == std::string::npos || kind == std::string::npos)
    throw std::runtime_error(name + " is no train unit; expected JOB.ROUND.tINDEX");
  const uint64_t round = std::stoull(name.substr(dot + 1)), index = std::stoull(name.substr(kind + 2));
  return protocol::plan_unit(job, round, protocol::UnitKind::train, index);
}

void replay(int argc, char** argv) {
  if (argc < 5)
    throw std::runtime_error("usage: replay_unit JOB.json UNIT WEIGHTS.safetensors SHARD_FOLDER [RESULT_FILE]");
  const protocol::JobDescription job = protocol::job_from_canonical(read_file(argv[1]));
  const protocol::Unit unit = planned(job, argv[2]);
  const kernels::ModelConfig config = kernels::parse_model_config(job.model);
  const std::string file = read_file(argv[3]), header = kernels::safetensors_header(config);
  if (file.compare(0, header.size(), header) != 0) throw std::runtime_error(std::string(argv[3]) + " is not canonical");
  const std::vector<float> weights = values_of<float>(file, header.size());
  const auto ops = kernels::make_reference_ops();
  Replay work{unit, config, weights, {}, *ops, {}, {}};
  for (const protocol::ShardReference& shard : unit.shards)
    work.shards.push_back(
        values_of<uint16_t>(read_file(std::filesystem::path(argv[4]) / protocol::to_hex(shard.blob.digest))));

  const std::string result = work.train();
  if (argc > 5) std::ofstream(argv[5], std::ios::binary) << result;
  std::cout << nlohmann::json{{"result", protocol::to_hex(protocol::sha256(result))},
                              {"segments_root", protocol::to_hex(protocol::merkle_root(work.segments))},
                              {"loss", ops->row_sum(work.losses.data(), work.losses.size()) /
                                           static_cast<float>(work.losses.size())},
                              {"parameters", weights.size()}}
                   .dump()
            << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  try {
    replay(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "replay_unit: " << error.what() << "\n";
    return 1;
  }
}
