#include "protocol/plan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "protocol/blob.h"
#include "samples.h"

namespace protocol {
namespace {

// docs/protocol.md section 8, byte by byte.
uint64_t defined_draw(uint64_t seed, uint64_t round, uint64_t lane, uint64_t step, uint64_t row) {
  std::string text = "gradminer data v1";
  text += '\0';
  for (uint64_t number : {seed, round, lane, step, row})
    for (int i = 0; i < 8; ++i, number >>= 8) text += static_cast<char>(number & 255);
  const Digest digest = sha256(std::string_view(text));
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | digest[static_cast<size_t>(i)];
  return value;
}

TEST(Plan, PlacesAreDrawnAsDefined) {
  for (const uint64_t lane : {0u, 5u}) {
    EXPECT_EQ(shard_of_lane(7, 3, lane, 11), defined_draw(7, 3, lane, UINT64_MAX, UINT64_MAX) % 11);
    EXPECT_EQ(row_begin(7, 3, lane, 2, 9, 1000, 64), defined_draw(7, 3, lane, 2, 9) % 936);
  }
}

TEST(Plan, RowsLieInsideTheirShard) {
  for (uint64_t row = 0; row < 1000; ++row) EXPECT_LT(row_begin(1, 2, 3, 4, row, 67, 64), 3u);
  for (uint64_t row = 0; row < 10; ++row) EXPECT_EQ(row_begin(1, 2, 3, 4, row, 65, 64), 0u);  // one place only
  EXPECT_THROW(row_begin(1, 2, 3, 4, 5, 64, 64), std::invalid_argument);
  EXPECT_THROW(shard_of_lane(1, 2, 3, 0), std::invalid_argument);
}

TEST(Plan, EvaluationRowsSpreadOverTheWholeSplit) {
  const std::vector<ShardReference> shards = {{{}, 1000}, {{}, 500}};
  std::map<uint64_t, std::set<uint64_t>> begins;
  for (uint64_t row = 0; row < 21; ++row) {  // 11 in shard 0, 10 in shard 1
    const EvaluationRow place = evaluation_row(row, 21, 64, shards);
    EXPECT_EQ(place.shard, row % 2);
    EXPECT_LE(place.begin + 65, shards[place.shard].tokens);
    begins[place.shard].insert(place.begin);
  }
  EXPECT_EQ(begins[0].size(), 11u);
  EXPECT_EQ(begins[1].size(), 10u);
  EXPECT_EQ(*begins[0].begin(), 0u);
  EXPECT_EQ(*begins[0].rbegin() + 65, 1000u);  // the last row ends with its shard
  EXPECT_EQ(evaluation_row(0, 1, 64, shards).begin, 0u);
  // A huge shard: the product does not wrap.
  const std::vector<ShardReference> huge = {{{}, uint64_t{1} << 49}};
  EXPECT_EQ(evaluation_row(999'999, 1'000'000, 64, huge).begin, (uint64_t{1} << 49) - 65);
  EXPECT_THROW(evaluation_row(21, 21, 64, shards), std::invalid_argument);
  EXPECT_THROW(evaluation_row(0, 1, 64, {}), std::invalid_argument);
  EXPECT_THROW(evaluation_row(1, 2, 500, shards), std::invalid_argument);
}

TEST(Plan, Prices) {
  EXPECT_EQ(price_of(0, 1, 1), 1u);
  EXPECT_EQ(price_of(1, 1, 0), 1u);
  EXPECT_EQ(price_of(1'000'000'000, 1, 1), 1u);
  EXPECT_EQ(price_of(1'000'000'001, 1, 1), 2u);
  EXPECT_EQ(price_of(1'000'000, 3'000, 7), 21u);
  EXPECT_EQ(price_of(uint64_t{1} << 40, uint64_t{1} << 40, 1000), 1208925819614629175u);  // 2^80 / 10^6
  EXPECT_EQ(price_of(UINT64_MAX, UINT64_MAX, UINT64_MAX), UINT64_MAX / 4);
  EXPECT_EQ(price_of(UINT64_MAX, UINT64_MAX, 1), UINT64_MAX / 4);
}

TEST(Plan, InnerNumbers) {
  InnerSettings settings;
  settings.lr = 0.01;
  settings.beta1 = 0.9;
  settings.beta2 = 0.99;
  settings.weight_decay = 0.1;
  settings.warmup_steps = 10;
  settings.max_grad_norm = 1;
  const InnerAdamW numbers = inner_numbers(settings, 2, 4);  // global steps 8 … 11
  ASSERT_EQ(numbers.steps.size(), 4u);
  EXPECT_EQ(numbers.beta1, 0.9f);
  EXPECT_EQ(numbers.one_minus_beta1, static_cast<float>(1 - 0.9));
  EXPECT_EQ(numbers.max_grad_norm, 1.0f);
  const double rates[] = {0.009, 0.01, 0.01, 0.01};
  for (int s = 0; s < 4; ++s) {
    const AdamWStepNumbers& step = numbers.steps[static_cast<size_t>(s)];
    EXPECT_FLOAT_EQ(step.decay, static_cast<float>(1 - rates[s] * 0.1)) << s;
    EXPECT_FLOAT_EQ(step.step_size, static_cast<float>(rates[s] / (1 - std::pow(0.9, s + 1)))) << s;
    EXPECT_FLOAT_EQ(step.inv_sqrt_bc2, static_cast<float>(1 / std::sqrt(1 - std::pow(0.99, s + 1)))) << s;
  }
}

TEST(Plan, OuterNumbers) {
  OuterSettings settings;
  settings.name = "adamw";
  settings.lr = 0.001;
  settings.warmup_rounds = 4;
  EXPECT_FLOAT_EQ(outer_rate(settings, 0), 0.00025f);
  EXPECT_FLOAT_EQ(outer_rate(settings, 2), 0.00075f);
  EXPECT_EQ(outer_rate(settings, 3), 0.001f);
  EXPECT_EQ(outer_rate(settings, 1000), 0.001f);
  const InnerAdamW numbers = outer_numbers(settings, 9);  // t = 10
  ASSERT_EQ(numbers.steps.size(), 1u);
  EXPECT_FLOAT_EQ(numbers.steps[0].step_size, static_cast<float>(0.001 / (1 - std::pow(0.9, 10))));
  EXPECT_EQ(numbers.steps[0].decay, 1.0f);
  EXPECT_EQ(numbers.max_grad_norm, 0.0f);
}

TEST(Plan, TrainUnit) {
  const JobDescription job = samples::job();
  const Unit unit = plan_unit(job, 12, UnitKind::train, 1);
  EXPECT_EQ(unit.name, "kjv.12.t1");
  EXPECT_EQ(unit.base_round, 12u);
  EXPECT_EQ(unit.first_lane, 2u);
  EXPECT_EQ(unit.lanes, 2u);
  ASSERT_EQ(unit.shards.size(), 2u);
  for (uint64_t i = 0; i < 2; ++i)
    EXPECT_EQ(unit.shards[i].blob.digest, job.train[shard_of_lane(job.seed, 12, 2 + i, 3)].blob.digest);
  EXPECT_EQ(unit.tokens, 2u * 3 * 5 * 64);
  EXPECT_EQ(unit.price, job.price_train);
  EXPECT_EQ(unit.max_result_bytes, 32 + payload_bytes(CodecId::int4, job.parameters));
  EXPECT_EQ(unit.inner->steps.size(), 3u);
  EXPECT_NO_THROW(unit_from_json(to_json(samples::train_unit())));
  EXPECT_THROW(plan_unit(job, 12, UnitKind::train, 2), std::invalid_argument);
}

TEST(Plan, GradientUnit) {
  const Unit unit = plan_unit(samples::gradient_job(), 0, UnitKind::train, 0);
  EXPECT_FALSE(unit.inner);
  EXPECT_EQ(unit.steps, 1u);
  EXPECT_EQ(unit.codec, "fp32");
  EXPECT_EQ(unit.max_result_bytes, 32 + 4 * samples::gradient_job().parameters);
}

TEST(Plan, EvaluateUnit) {
  const JobDescription job = samples::job();
  const Unit unit = plan_unit(job, 12, UnitKind::evaluate, 0);
  EXPECT_EQ(unit.name, "kjv.12.e0");
  EXPECT_EQ(unit.codec, "fp32");
  EXPECT_EQ(unit.shards.size(), job.validation.size());
  EXPECT_EQ(unit.tokens, 33u * 64);
  EXPECT_EQ(unit.price, job.price_evaluate);
  EXPECT_EQ(unit.max_result_bytes, 32u + 4 * 3);  // blocks of 16, 16 and 1 rows of 64 tokens
}

TEST(Plan, TokensBeyond64BitsAreRefused) {
  JobDescription job = samples::job();
  job.steps = job.batch = job.context = 1 << 20;
  job.lanes_per_unit = 65'536;
  job.inner.reset();
  EXPECT_THROW(plan_unit(job, 0, UnitKind::train, 0), std::invalid_argument);
}

}  // namespace
}  // namespace protocol
