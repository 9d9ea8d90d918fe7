#include "lane_worker.h"

#include <malloc.h>

#include <algorithm>

#include "cards.h"
#include "engine.h"
#include "kernels/huge_pages.h"
#include "kernels/profile.h"
#include "protocol/blob.h"
#include "system_info.h"

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

}  // namespace

kernels::Trainer::Settings settings_of(const protocol::Unit& unit) {
  return {purpose_of(unit), false, kernels::profile_named(unit.profile).value()};
}

struct LaneWorker::Buffers {
  nlohmann::json model;
  size_t batch, context;
  kernels::Trainer::Settings settings;
  std::unique_ptr<kernels::Trainer> trainer;
  std::vector<float> lane;       // a lane's result, where operations are in the host's memory
  std::vector<float> pieces[2];  // of what is read from a card, in turn
  uint64_t trainer_bytes = 0;    // of a card's memory
  size_t exchange_asked;         // floats
  std::unique_ptr<float, std::function<void(float*)>> exchange;  // null where they have no room

  Buffers(const protocol::Unit& unit, const kernels::ModelConfig& config, kernels::Trainer::Settings planned,
          kernels::Ops& ops, size_t exchange_values)
      : model(unit.model),
        batch(unit.batch),
        context(unit.context),
        settings(planned),
        trainer(make_trainer(config, batch, context, ops, settings)),
        exchange_asked(exchange_values) {
    if (settings.purpose == Purpose::evaluate) return;
    const size_t count = kernels::parameter_count(config);
    if (ops.in_host_memory()) {
      kernels::resize_in_huge_pages(lane, count);
    } else {
      for (std::vector<float>& piece : pieces) piece.resize(std::min(count, piece_values));
    }
  }

  bool fit(const protocol::Unit& unit, kernels::Trainer::Settings wanted, size_t exchange_values) const {
    return unit.model == model && unit.batch == batch && unit.context == context && settings == wanted &&
           exchange_values <= exchange_asked;
  }
};

LaneWorker::LaneWorker(std::string name, MakeOps make_ops, std::shared_ptr<std::string> unit)
    : name_(std::move(name)), make_ops_(std::move(make_ops)), unit_(std::move(unit)) {
  unit_->clear();  // of a worker before
}
LaneWorker::~LaneWorker() = default;

kernels::Ops& LaneWorker::ops() {
  if (!ops_) ops_ = make_ops_();
  return *ops_;
}

const LaneWorker::Figures& LaneWorker::measure() {
  figures_ = {measure_flops(ops()), plannable_bytes(ops())};
  return figures_;
}

void LaneWorker::plan_buffers(const protocol::Unit& unit, const kernels::ModelConfig& config,
                              kernels::Trainer::Settings settings, size_t exchange, uint64_t linked,
                              std::optional<uint64_t> most) {
  const bool card = !ops().in_host_memory();
  if (card && buffers_)
    settings.recompute = buffers_->settings.recompute, settings.micro_batch = buffers_->settings.micro_batch;
  if (buffers_ && buffers_->fit(unit, settings, exchange)) return;
  buffers_.reset();  // before the new ones: they need not fit side by side
  if (card) {
    plan_card(unit, config, settings, exchange, linked, most);
  } else {
    buffers_ = std::make_unique<Buffers>(unit, config, settings, ops(), 0);
  }
}

uint64_t LaneWorker::planned_bytes() const { return buffers_ ? buffers_->trainer_bytes : 0; }

float* LaneWorker::exchange_buffer() const { return buffers_ ? buffers_->exchange.get() : nullptr; }

void LaneWorker::take_weights(std::span<const float> weights) { buffers_->trainer->keep(weights); }

void LaneWorker::plan_card(const protocol::Unit& unit, const kernels::ModelConfig& config,
                           kernels::Trainer::Settings settings, size_t exchange, uint64_t linked,
                           std::optional<uint64_t> most) {
  const uint64_t own = ops().own_bytes(), free = plannable_bytes(ops());
  const uint64_t limit = most ? std::min(free, *most + own) : free;
  const auto within = [&](uint64_t bytes) {
    return kernels::Trainer::settings_within(bytes, config, unit.batch, unit.context, ops(), settings);
  };
  const kernels::Trainer::Settings beside_links = within(limit), without_links = within(limit + linked);
  settings = beside_links.recompute && !without_links.recompute ? without_links : beside_links;
  const uint64_t needed = kernels::Trainer::planned_bytes(config, unit.batch, unit.context, ops(), settings);
  if (needed > limit) {
    throw kernels::CudaOutOfMemory(
        name_ + ": the unit needs " + human_bytes(static_cast<double>(needed)) + " of its memory, " +
        (needed > free ? human_bytes(static_cast<double>(free)) + " are free" : "and ran out of it with that"));
  }
  buffers_ = std::make_unique<Buffers>(unit, config, settings, ops(), exchange);
  buffers_->trainer_bytes =
      kernels::Trainer::planned_bytes(config, unit.batch, unit.context, ops(), buffers_->settings) - own;
  const uint64_t bytes = exchange * sizeof(float);
  if (exchange == 0 || bytes > limit - needed) return;
  buffers_->exchange = {static_cast<float*>(ops().allocate(bytes)), [this](float* memory) { ops_->free(memory); }};
}

LaneResult LaneWorker::compute(const protocol::Unit& unit, uint64_t lane, std::span<const float> weights,
                               const ReadTokens& read_tokens, const OnTokens& on_tokens,
                               const kernels::Cancel& cancel) {
  *unit_ = unit.name;
  LaneData data(unit, read_tokens);
  if (unit.kind == protocol::UnitKind::evaluate) return evaluation(weights, data, cancel);
  return unit.inner ? local_steps(unit, lane, weights, data, on_tokens, cancel)
                    : gradient(unit, lane, weights, data, on_tokens, cancel);
}

LaneResult LaneWorker::local_steps(const protocol::Unit& unit, uint64_t lane, std::span<const float> weights,
                                   LaneData& data, const OnTokens& on_tokens, const kernels::Cancel& cancel) {
  const auto next_batch = [&](size_t step) {
    on_tokens(step * unit.batch * unit.context);
    return data.batch(lane, step);
  };
  LaneResult result;
  result.losses =
      buffers_->trainer->local_steps(weights, optimiser_of(*unit.inner), next_batch, buffers_->lane, cancel);
  result.segments.push_back(segment_of(this->result()));
  return result;
}

LaneResult LaneWorker::gradient(const protocol::Unit& unit, uint64_t lane, std::span<const float> weights,
                                LaneData& data, const OnTokens& on_tokens, const kernels::Cancel& cancel) {
  kernels::Trainer& trainer = *buffers_->trainer;
  LaneResult result;
  const auto on_block = [&](size_t block, std::span<const float> gradient) {
    result.segments.push_back(segment_of(gradient));
    on_tokens(unit.batch * unit.context * block / trainer.block_count());
  };
  result.losses.push_back(trainer.gradient(weights, data.batch(lane, 0), buffers_->lane, on_block, cancel));
  return result;
}

LaneResult LaneWorker::evaluation(std::span<const float> weights, LaneData& data, const kernels::Cancel& cancel) {
  LaneResult result;
  result.losses = buffers_->trainer->evaluate(weights, data.evaluation_batch(), cancel);
  for (const float& loss : result.losses) result.segments.push_back(protocol::segment_digest({&loss, 1}));
  return result;
}

std::span<const float> LaneWorker::result() const {
  return ops_->in_host_memory() ? buffers_->lane : buffers_->trainer->result();
}

// values: in the memory of the operations. A card hashes the leaves itself, and only the hashes cross.
protocol::Digest LaneWorker::segment_of(std::span<const float> values) {
  if (ops_->in_host_memory()) return protocol::segment_digest(values);
  constexpr size_t leaf = protocol::segment_leaf_values;
  std::vector<protocol::Digest> hashes((values.size() + leaf - 1) / leaf);
  ops_->leaf_hashes(values.data(), values.size(), leaf, hashes.data()->data());
  protocol::MerkleTree tree;
  for (const protocol::Digest& hash : hashes) tree.add_hash(hash);
  return tree.root();
}

void LaneWorker::read_result(const TakePiece& take) {
  std::span<const float> values = result();
  for (size_t turn = 0; !values.empty(); ++turn) {
    const std::span<const float> piece = values.first(std::min(values.size(), piece_values));
    values = values.subspan(piece.size());
    if (ops_->in_host_memory()) {
      take(piece);
    } else {
      const std::span<float> read = std::span(buffers_->pieces[turn % 2]).first(piece.size());
      ops_->read(read.data(), piece.data(), piece.size_bytes());
      take(read);
    }
  }
}

void LaneWorker::free_buffers() {
  if (!ops_) return;
  buffers_.reset();
  if (ops_->in_host_memory()) ops_.reset();
  malloc_trim(0);
}

}  // namespace agent
