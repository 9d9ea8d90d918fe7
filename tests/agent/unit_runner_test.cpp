// A unit's result against the same computation written out over the reference operations.
#include "unit_runner.h"

#include <gtest/gtest.h>

#include <set>

#include "kernels/codec.h"
#include "protocol/blob.h"
#include "tiny_job.h"

namespace agent {
namespace {

class UnitRunnerTest : public testing::Test {
 protected:
  void read(uint64_t first, std::span<uint16_t> out) const {
    std::memcpy(out.data(), pool.published.at(job.shard.blob.digest).data() + 2 * first, out.size_bytes());
  }
  ReadTokens read_tokens = [this](size_t, uint64_t first, std::span<uint16_t> out) { read(first, out); };

  std::vector<uint16_t> rows(const protocol::Unit& unit, uint64_t lane, uint64_t step) const {
    std::vector<uint16_t> tokens(unit.batch * (unit.context + 1));
    for (uint64_t b = 0; b < unit.batch; ++b) {
      const uint64_t begin = protocol::row_begin(unit.seed, unit.round, unit.first_lane + lane, step, b,
                                                 unit.shards[lane].tokens, unit.context);
      read(begin, std::span(tokens).subspan(b * (unit.context + 1), unit.context + 1));
    }
    return tokens;
  }

  UnitResult run(const protocol::Unit& unit, UnitRunner::MakeOps make_ops) {
    UnitRunner runner(std::move(make_ops));
    return runner.run(
        unit, job.config, runner.plan(unit, job.config, UINT64_MAX), job.rounds[0], read_tokens, [](uint64_t) {},
        [] { return false; });
  }

  // T(lanes): the left half holds the largest power of two below the count.
  std::vector<float> tree(const std::vector<std::vector<float>>& lanes, size_t first, size_t count) {
    if (count == 1) return lanes[first];
    size_t half = 1;
    while (2 * half < count) half *= 2;
    std::vector<float> left = tree(lanes, first, half), right = tree(lanes, first + half, count - half);
    for (size_t i = 0; i < left.size(); ++i) left[i] += right[i];
    return left;
  }

  void expect_blob(const UnitResult& result, const std::vector<float>& sum, protocol::CodecId codec) {
    ASSERT_EQ(result.blob.size(), protocol::blob_header_bytes + protocol::payload_bytes(codec, sum.size()));
    protocol::parse_blob_header(result.blob, result.blob.size(), protocol::BlobKind::result, codec, sum.size());
    std::vector<uint8_t> payload(protocol::payload_bytes(codec, sum.size()));
    kernels::encode(static_cast<kernels::Codec>(codec), sum, payload);
    EXPECT_TRUE(std::equal(payload.begin(), payload.end(), result.blob.begin() + protocol::blob_header_bytes));
    EXPECT_EQ(result.digest, protocol::sha256(result.blob));
  }

  fakes::FakePool pool;
  TinyJob job{pool};
  std::unique_ptr<kernels::Ops> ops = kernels::make_reference_ops();
};

TEST_F(UnitRunnerTest, LocalStepsOfSeveralLanes) {
  protocol::Unit unit = job.unit();
  unit.lanes = 3;
  unit.shards.assign(3, job.shard);
  unit.first_lane = 6;
  const protocol::InnerAdamW& inner = *unit.inner;
  kernels::LocalAdamW optimiser{
      inner.beta1, inner.one_minus_beta1, inner.beta2, inner.one_minus_beta2, inner.epsilon, 0, {}};
  for (const auto& step : inner.steps) optimiser.steps.push_back({step.decay, step.step_size, step.inv_sqrt_bc2});

  std::vector<std::vector<float>> lanes;
  std::vector<protocol::Digest> segments;
  std::vector<float> losses;
  for (uint64_t lane = 0; lane < unit.lanes; ++lane) {
    kernels::Trainer trainer(job.config, unit.batch, unit.context, *ops, kernels::Trainer::Purpose::local_steps);
    std::vector<uint16_t> tokens;
    lanes.emplace_back(unit.parameters);
    for (float loss : trainer.local_steps(
             job.rounds[0], optimiser,
             [&](size_t step) {
               tokens = rows(unit, lane, step);
               return kernels::TokenBatch{unit.batch, unit.context, tokens};
             },
             lanes.back())) {
      losses.push_back(loss);
    }
    segments.push_back(protocol::segment_digest(lanes.back()));
  }

  for (const UnitResult& result :
       {run(unit, kernels::make_reference_ops), run(unit, [] { return kernels::make_cpu_ops(2); })}) {
    expect_blob(result, tree(lanes, 0, 3), protocol::CodecId::int4);
    EXPECT_EQ(result.segments_root, protocol::merkle_root(segments));
    EXPECT_EQ(result.loss, ops->row_sum(losses.data(), losses.size()) / 9);
  }
}

TEST_F(UnitRunnerTest, GradientsCommitToTheirBlocks) {
  protocol::Unit unit = job.unit();
  unit.steps = 1;
  unit.inner.reset();
  unit.codec = "fp32";
  unit.batch = 150;  // 1,050 tokens: two blocks
  unit.tokens = unit.lanes * unit.batch * unit.context;
  std::vector<std::vector<float>> lanes;
  std::vector<protocol::Digest> segments;
  for (uint64_t lane = 0; lane < unit.lanes; ++lane) {
    kernels::Trainer trainer(job.config, unit.batch, unit.context, *ops, kernels::Trainer::Purpose::block_gradients);
    const std::vector<uint16_t> tokens = rows(unit, lane, 0);
    lanes.emplace_back(unit.parameters);
    trainer.gradient(job.rounds[0], {unit.batch, unit.context, tokens}, lanes.back(),
                     [&](size_t, std::span<const float> g) { segments.push_back(protocol::segment_digest(g)); });
  }
  ASSERT_EQ(segments.size(), 4u);
  const UnitResult result = run(unit, [] { return kernels::make_cpu_ops(1); });
  expect_blob(result, tree(lanes, 0, 2), protocol::CodecId::fp32);
  EXPECT_EQ(result.segments_root, protocol::merkle_root(segments));
}

// The reference and the fast engine agree in each profile, and the profiles do not.
TEST_F(UnitRunnerTest, AUnitIsComputedInItsProfile) {
  std::set<protocol::Digest> digests;
  for (const kernels::Profile profile : kernels::profiles()) {
    protocol::Unit unit = job.unit();
    unit.profile = kernels::name_of(profile);
    const UnitResult expected = run(unit, kernels::make_reference_ops);
    const UnitResult actual = run(unit, [] { return kernels::make_cpu_ops(2); });
    EXPECT_EQ(actual.digest, expected.digest) << unit.profile;
    EXPECT_EQ(actual.segments_root, expected.segments_root) << unit.profile;
    EXPECT_TRUE(digests.insert(expected.digest).second) << unit.profile;
  }
}

TEST_F(UnitRunnerTest, EvaluationGivesBlockLosses) {
  protocol::Unit unit = job.unit();
  unit.kind = protocol::UnitKind::evaluate;
  unit.lanes = unit.steps = 1;
  unit.inner.reset();
  unit.shards = {job.shard, job.shard};
  unit.batch = 150;
  unit.tokens = unit.batch * unit.context;
  std::vector<uint16_t> tokens(unit.batch * (unit.context + 1));
  for (uint64_t row = 0; row < unit.batch; ++row) {
    const protocol::EvaluationRow place = protocol::evaluation_row(row, unit.batch, unit.context, unit.shards);
    read(place.begin, std::span(tokens).subspan(row * (unit.context + 1), unit.context + 1));
  }
  kernels::Trainer trainer(job.config, unit.batch, unit.context, *ops, kernels::Trainer::Purpose::evaluate);
  const std::vector<float> losses = trainer.evaluate(job.rounds[0], {unit.batch, unit.context, tokens});
  ASSERT_EQ(losses.size(), 2u);
  const UnitResult result = run(unit, [] { return kernels::make_cpu_ops(1); });
  protocol::parse_blob_header(result.blob, result.blob.size(), protocol::BlobKind::losses, protocol::CodecId::fp32, 2);
  EXPECT_EQ(std::memcmp(result.blob.data() + protocol::blob_header_bytes, losses.data(), 8), 0);
  EXPECT_EQ(result.segments_root, protocol::merkle_root(std::vector{protocol::segment_digest({&losses[0], 1}),
                                                                    protocol::segment_digest({&losses[1], 1})}));
  EXPECT_EQ(result.loss, ops->row_sum(losses.data(), 2) / 2);
}

TEST_F(UnitRunnerTest, BuffersOfOneShapeDoNotLeakIntoTheNext) {
  UnitRunner runner([] { return kernels::make_cpu_ops(1); });
  uint64_t limit = UINT64_MAX;
  auto digest = [&](const protocol::Unit& unit) {
    return runner
        .run(
            unit, job.config, runner.plan(unit, job.config, limit), job.rounds[0], read_tokens, [](uint64_t) {},
            [] { return false; })
        .digest;
  };
  const protocol::Unit small = job.unit();
  protocol::Unit large = small;
  large.batch = 5;
  large.tokens = large.lanes * large.steps * large.batch * large.context;
  const protocol::Digest first = digest(small);
  EXPECT_NE(digest(large), first);
  EXPECT_EQ(digest(small), first);
  runner.free_buffers();
  EXPECT_EQ(digest(small), first);
  limit = 0;  // the leanest plan
  EXPECT_EQ(digest(small), first);
}

TEST_F(UnitRunnerTest, PlansWithinTheLimit) {
  UnitRunner runner([] { return kernels::make_cpu_ops(1); });
  const protocol::Unit unit = job.unit();
  const UnitPlan fastest = runner.plan(unit, job.config, UINT64_MAX), leanest = runner.plan(unit, job.config, 0);
  EXPECT_FALSE(fastest.settings.recompute);
  EXPECT_TRUE(leanest.settings.recompute);
  EXPECT_LE(leanest.bytes, fastest.bytes);
  EXPECT_EQ(runner.plan(unit, job.config, fastest.bytes).settings, fastest.settings);
  EXPECT_EQ(runner.plan(unit, job.config, fastest.bytes - 1).settings, leanest.settings);
}

TEST_F(UnitRunnerTest, ProgressEndsAtTheUnitsTokens) {
  UnitRunner runner([] { return kernels::make_cpu_ops(1); });
  const protocol::Unit unit = job.unit();
  std::vector<uint64_t> seen;
  runner.run(
      unit, job.config, runner.plan(unit, job.config, UINT64_MAX), job.rounds[0], read_tokens,
      [&](uint64_t tokens) { seen.push_back(tokens); }, [] { return false; });
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_GT(seen.size(), unit.lanes * unit.steps);
  EXPECT_EQ(seen.back(), unit.tokens);
}

}  // namespace
}  // namespace agent
