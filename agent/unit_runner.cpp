#include "unit_runner.h"

#include <malloc.h>

#include <bit>
#include <chrono>
#include <cstring>

#include "kernels/codec.h"
#include "kernels/huge_pages.h"
#include "lane_data.h"
#include "protocol/blob.h"

namespace agent {
namespace {

using Purpose = kernels::Trainer::Purpose;

Purpose purpose_of(const protocol::Unit& unit) {
  if (unit.kind == protocol::UnitKind::evaluate) return Purpose::evaluate;
  return unit.inner ? Purpose::local_steps : Purpose::block_gradients;
}

kernels::LocalAdamW optimiser_of(const protocol::InnerAdamW& inner) {
  kernels::LocalAdamW optimiser{inner.beta1,   inner.one_minus_beta1, inner.beta2, inner.one_minus_beta2,
                                inner.epsilon, inner.max_grad_norm,   {}};
  for (const protocol::AdamWStepNumbers& step : inner.steps) {
    optimiser.steps.push_back({step.decay, step.step_size, step.inv_sqrt_bc2});
  }
  return optimiser;
}

std::vector<uint8_t> encode_blob(protocol::BlobKind kind, protocol::CodecId codec, std::span<const float> values) {
  const protocol::BlobHeader header = protocol::make_blob_header(kind, codec, values.size());
  std::vector<uint8_t> blob(sizeof header + header.payload_bytes);
  std::memcpy(blob.data(), &header, sizeof header);
  kernels::encode(static_cast<kernels::Codec>(codec), values, std::span(blob).subspan(sizeof header));
  return blob;
}

// Weights, tokens, results and their encoding.
uint64_t bytes_besides_trainer(const protocol::Unit& unit, const kernels::ModelConfig& config) {
  const uint64_t weights = kernels::parameter_count(config) * sizeof(float);
  const uint64_t rows = unit.batch * (unit.context + 1) * sizeof(uint16_t);
  if (unit.kind == protocol::UnitKind::evaluate) return weights + rows;
  const uint64_t results = 1 + static_cast<uint64_t>(std::bit_width(unit.lanes - 1));  // a lane's, and LaneTree's sums
  const uint64_t blob = protocol::blob_header_bytes + protocol::payload_bytes(protocol::codec_from_name(unit.codec),
                                                                              kernels::parameter_count(config));
  return weights + rows + results * weights + blob;
}

}  // namespace

struct UnitRunner::Buffers {
  nlohmann::json model;
  size_t batch, context;
  kernels::Trainer::Settings settings;
  kernels::Trainer trainer;
  std::vector<float> lane;  // a lane's result

  Buffers(const protocol::Unit& unit, const kernels::ModelConfig& config, kernels::Trainer::Settings planned,
          kernels::Ops& ops)
      : model(unit.model),
        batch(unit.batch),
        context(unit.context),
        settings(planned),
        trainer(config, batch, context, ops, settings) {
    if (settings.purpose != Purpose::evaluate) kernels::resize_in_huge_pages(lane, kernels::parameter_count(config));
  }

  bool fit(const protocol::Unit& unit, kernels::Trainer::Settings wanted) const {
    return unit.model == model && unit.batch == batch && unit.context == context && settings == wanted;
  }
};

UnitRunner::UnitRunner(MakeOps make_ops) : make_ops_(std::move(make_ops)) {}
UnitRunner::~UnitRunner() = default;

kernels::Ops& UnitRunner::ops() {
  if (!ops_) ops_ = make_ops_();
  return *ops_;
}

void UnitRunner::free_buffers() {
  if (!ops_) return;
  buffers_.reset();
  ops_.reset();
  malloc_trim(0);
}

UnitPlan UnitRunner::plan(const protocol::Unit& unit, const kernels::ModelConfig& config, uint64_t limit) {
  const uint64_t besides = bytes_besides_trainer(unit, config);
  const kernels::Trainer::Settings settings =
      kernels::Trainer::settings_within(limit > besides ? limit - besides : 0, config, unit.batch, unit.context, ops(),
                                        {purpose_of(unit), false, kernels::profile_named(unit.profile).value()});
  return {settings, besides + kernels::Trainer::planned_bytes(config, unit.batch, unit.context, ops(), settings)};
}

void UnitRunner::plan_buffers(const protocol::Unit& unit, const kernels::ModelConfig& config,
                              kernels::Trainer::Settings settings) {
  if (buffers_ && buffers_->fit(unit, settings)) return;
  buffers_.reset();  // before the new ones: they need not fit side by side
  buffers_ = std::make_unique<Buffers>(unit, config, settings, ops());
}

UnitResult UnitRunner::run(const protocol::Unit& unit, const kernels::ModelConfig& config,
                           kernels::Trainer::Settings settings, std::span<const float> weights,
                           const ReadTokens& read_tokens, const OnProgress& on_progress,
                           const kernels::Cancel& cancel) {
  const auto begin = std::chrono::steady_clock::now();
  plan_buffers(unit, config, settings);
  UnitResult result = unit.kind == protocol::UnitKind::train
                          ? train(unit, config, weights, read_tokens, on_progress, cancel)
                          : evaluate(unit, weights, read_tokens, cancel);
  result.digest = protocol::sha256(result.blob);
  result.tokens = unit.tokens;
  on_progress(unit.tokens);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

UnitResult UnitRunner::train(const protocol::Unit& unit, const kernels::ModelConfig& config,
                             std::span<const float> weights, const ReadTokens& read_tokens,
                             const OnProgress& on_progress, const kernels::Cancel& cancel) {
  Buffers& buffers = *buffers_;
  kernels::Trainer& trainer = buffers.trainer;
  const std::span<float> lane_result = buffers.lane;
  const uint64_t step_tokens = unit.batch * unit.context;
  LaneData data(unit, read_tokens);
  std::optional<kernels::LaneTree> tree;
  if (unit.lanes > 1) tree.emplace(unit.lanes, lane_result.size(), ops());
  std::vector<protocol::Digest> segments;
  std::vector<float> losses;  // lane by lane, steps upward

  for (uint64_t lane = 0; lane < unit.lanes; ++lane) {
    if (unit.inner) {
      auto next_batch = [&](size_t step) {
        on_progress((lane * unit.steps + step) * step_tokens);
        return data.batch(lane, step);
      };
      const std::vector<float> steps =
          trainer.local_steps(weights, optimiser_of(*unit.inner), next_batch, lane_result, cancel);
      losses.insert(losses.end(), steps.begin(), steps.end());
      segments.push_back(protocol::segment_digest(lane_result));
    } else {
      auto on_block = [&](size_t block, std::span<const float> gradient) {
        segments.push_back(protocol::segment_digest(gradient));
        on_progress(lane * step_tokens + step_tokens * block / trainer.block_count());
      };
      losses.push_back(trainer.gradient(weights, data.batch(lane, 0), lane_result, on_block, cancel));
    }
    if (tree) tree->add(lane_result);
  }

  const std::span<const float> sum = tree ? tree->sum() : lane_result;
  kernels::require_finite(ops(), kernels::parameters_of(config), sum, unit.steps - 1);
  UnitResult result;
  result.loss = ops().row_sum(losses.data(), losses.size()) / static_cast<float>(losses.size());
  result.segments_root = protocol::merkle_root(segments);
  result.blob = encode_blob(protocol::BlobKind::result, protocol::codec_from_name(unit.codec), sum);
  return result;
}

UnitResult UnitRunner::evaluate(const protocol::Unit& unit, std::span<const float> weights,
                                const ReadTokens& read_tokens, const kernels::Cancel& cancel) {
  LaneData data(unit, read_tokens);
  const std::vector<float> losses = buffers_->trainer.evaluate(weights, data.evaluation_batch(), cancel);
  std::vector<protocol::Digest> segments;
  for (const float& loss : losses) segments.push_back(protocol::segment_digest({&loss, 1}));
  UnitResult result;
  result.loss = ops().row_sum(losses.data(), losses.size()) / static_cast<float>(losses.size());
  result.segments_root = protocol::merkle_root(segments);
  result.blob = encode_blob(protocol::BlobKind::losses, protocol::CodecId::fp32, losses);
  return result;
}

}  // namespace agent
