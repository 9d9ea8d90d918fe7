// Units of a small job over cards that are the CPU's engine.
#pragma once

#include <gtest/gtest.h>

#include "cpu_as_card.h"
#include "tiny_job.h"

namespace agent {

class CardsTest : public testing::Test {
 protected:
  explicit CardsTest(size_t inner = 64) : job(pool, inner) {}

  void read(size_t shard, uint64_t first, std::span<uint16_t> out) const {
    std::memcpy(out.data(), pool.published.at(job.shard.blob.digest).data() + 2 * first, out.size_bytes());
    if (shard >= first_bad_shard) out[1] = static_cast<uint16_t>(60'000 + shard);
  }

  void use_layers(size_t layers) {
    job.config.layers = layers;
    job.rounds[0].resize(kernels::parameter_count(job.config));
    kernels::initialise_weights(job.config, 5, job.rounds[0].data());
  }
  void use_llama() {
    job.config.family = kernels::Family::llama;
    job.config.kv_heads = 1;
    job.config.tied_head = false;
    job.config.rope_inverse_frequencies.assign(job.config.head_size() / 2, 0.5f);
    use_layers(1);
  }
  protocol::Unit unit_of(uint64_t lanes) const {
    protocol::Unit unit = job.unit();
    unit.lanes = lanes;
    unit.shards.assign(lanes, job.shard);
    unit.tokens = lanes * unit.steps * unit.batch * unit.context;
    return unit;
  }

  protocol::Unit gradients_of(uint64_t lanes, uint64_t batch = 2) const {
    protocol::Unit unit = unit_of(lanes);
    unit.inner.reset();
    unit.steps = 1;
    unit.batch = batch;
    unit.tokens = lanes * unit.batch * unit.context;
    return unit;
  }

  // Each lane is finite, but not their sum.
  protocol::Unit overflowing_unit(uint64_t lanes) const {
    protocol::Unit unit = unit_of(lanes);
    unit.steps = 1;
    unit.inner->steps.resize(1);
    unit.inner->beta1 = 0, unit.inner->one_minus_beta1 = 1;
    unit.inner->steps[0].step_size = 0x1.4p127f;
    unit.tokens = lanes * unit.batch * unit.context;
    return unit;
  }

  UnitResult run(UnitRunner& with, const protocol::Unit& unit, uint64_t limit = UINT64_MAX,
                 const kernels::Cancel& cancel = {}) const {
    const ReadTokens read_tokens = [this](size_t shard, uint64_t first, std::span<uint16_t> out) {
      read(shard, first, out);
    };
    return with.run(
        unit, job.config, with.plan(unit, job.config, limit), job.rounds[0], read_tokens, [](uint64_t) {}, cancel);
  }
  // What the host needs for the unit on so many cards.
  uint64_t host_bytes_with(size_t cards, const protocol::Unit& unit) const {
    UnitRunner some([] { return kernels::make_cpu_ops(1); });
    some.use_cards(UnitRunner::Cards(cards, cpu_as_card("any")));
    return some.plan(unit, job.config, UINT64_MAX).bytes;
  }
  UnitResult on_cpu(const protocol::Unit& unit) const {
    UnitRunner cpu([] { return kernels::make_cpu_ops(1); });
    return run(cpu, unit);
  }
  // What a unit fails with; else nothing.
  std::string failure_of(UnitRunner& with, const protocol::Unit& unit) const {
    try {
      run(with, unit);
    } catch (const kernels::NumericFailure& failure) {
      return failure.what();
    }
    return "";
  }
  void expect_the_cpus(const UnitResult& result, const protocol::Unit& unit) const {
    const UnitResult expected = on_cpu(unit);
    EXPECT_EQ(result.digest, expected.digest);
    EXPECT_EQ(result.segments_root, expected.segments_root);
    EXPECT_EQ(result.loss, expected.loss);
  }

  fakes::FakePool pool;
  TinyJob job;
  size_t first_bad_shard = SIZE_MAX;
  UnitRunner runner{[] { return kernels::make_cpu_ops(1); }};
  std::vector<std::string> failures;
  const UnitRunner::OnCardFailed on_failed = [this](const std::string& card, const std::string& what) {
    failures.push_back(card + " " + what);
  };
  std::vector<std::string> shortages;
  const UnitRunner::OnCardShort on_short = [this](const std::string& card, const std::string& what) {
    shortages.push_back(card + " " + what);
  };
};

}  // namespace agent
