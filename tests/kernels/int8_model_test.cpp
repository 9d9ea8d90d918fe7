// The int8 profiles of whole networks: one right answer on every path, whatever is computed again; near exact-fp32; and
// no sum beyond int32.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/training.h"
#include "model_test_util.h"

namespace kernels {
namespace {

using test::Case;
using test::llama;
using Purpose = Trainer::Purpose;

const Case int8_cases[] = {
    // layers, heads, channels, positions, vocabulary, inner
    {"odd_everything", {2, 3, 15, 9, 13, 37, 1e-5f}, 5, 7},
    {"head_size_64", {2, 2, 128, 40, 61, 96, 1e-5f}, 2, 33},
    {"one_token", {2, 2, 12, 4, 17, 48, 1e-5f}, 1, 1},
    {"three_blocks", {2, 2, 8, 100, 29, 32, 1e-5f}, 25, 100},
    {"inner_longer_than_a_slice", {1, 1, 8, 16, 11, 2100, 1e-5f}, 2, 13},
    {"vocabulary_longer_than_a_slice", {1, 1, 8, 16, 5003, 24, 1e-5f}, 3, 11},
    {"llama_odd_everything", llama({2, 3, 3, 18, 9, 13, 37}), 5, 7},
    {"llama_tied", llama({2, 2, 1, 12, 9, 17, 20, true}), 3, 9},
    {"llama_three_blocks", llama({2, 4, 2, 16, 100, 29, 32}), 25, 100},
};

struct Int8Results {
  std::vector<float> gradient, losses, logits;
};

Int8Results results_of(const Case& shape, Ops& ops, Profile profile, bool recompute) {
  const auto& [name, config, batch, context] = shape;
  const std::vector<float> weights = test::some_weights(config, 21);
  const std::vector<uint16_t> tokens = test::some_tokens(config, batch, context, 22);
  Int8Results results{std::vector<float>(weights.size()), {}, std::vector<float>(config.vocabulary)};
  Trainer trainer(config, batch, context, ops, {Purpose::gradient, recompute, profile});
  results.losses = {trainer.gradient(weights, {batch, context, tokens}, results.gradient)};
  Trainer evaluator(config, batch, context, ops, {Purpose::evaluate, false, profile});
  for (const float loss : evaluator.evaluate(weights, {batch, context, tokens})) results.losses.push_back(loss);
  evaluator.logits(weights, std::span(tokens).first(context), results.logits);
  return results;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), 4 * a.size()) == 0;
}

class Int8Model : public testing::TestWithParam<Case> {};

TEST_P(Int8Model, OneRightAnswer) {
  for (const Profile profile : {Profile::exact_int8, Profile::exact_int8_head}) {
    const Int8Results expected = results_of(GetParam(), *make_reference_ops(), profile, false);
    bool recompute = false;
    for (const test::Engine& engine : test::fast_engines()) {
      const Int8Results actual = results_of(GetParam(), *engine.ops, profile, recompute = !recompute);
      EXPECT_TRUE(same_bits(actual.losses, expected.losses)) << name_of(profile) << ", " << engine.name;
      EXPECT_TRUE(same_bits(actual.gradient, expected.gradient)) << name_of(profile) << ", " << engine.name;
      EXPECT_TRUE(same_bits(actual.logits, expected.logits)) << name_of(profile) << ", " << engine.name;
    }
  }
}

double relative_error(const std::vector<float>& x, const std::vector<float>& of) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    error += std::pow(static_cast<double>(x[i]) - static_cast<double>(of[i]), 2);
    norm += std::pow(static_cast<double>(of[i]), 2);
  }
  return std::sqrt(error / norm);
}

// Rounding to 1 in 127 of the largest moves a gradient by a few percent, and a mistake by much more. The profiles
// differ.
TEST_P(Int8Model, NearFp32) {
  const std::unique_ptr<Ops> ops = make_cpu_ops(1);
  const Int8Results fp32 = results_of(GetParam(), *ops, Profile::exact_fp32, false);
  const Int8Results int8 = results_of(GetParam(), *ops, Profile::exact_int8, false);
  const Int8Results head = results_of(GetParam(), *ops, Profile::exact_int8_head, false);
  for (const Int8Results& r : {int8, head}) {
    EXPECT_LT(relative_error(r.gradient, fp32.gradient), 0.05);
    EXPECT_NEAR(r.losses[0], fp32.losses[0], 0.01 * fp32.losses[0]);
  }
  EXPECT_FALSE(same_bits(int8.gradient, fp32.gradient));
  EXPECT_FALSE(same_bits(head.gradient, int8.gradient));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Int8Model, testing::ValuesIn(int8_cases),
                         [](const auto& shape) { return std::string(shape.param.name); });

TEST(Int8Steps, OneRightAnswerAfterThreeSteps) {
  const ModelConfig config{2, 3, 15, 9, 13, 37, 1e-5f};
  for (const Profile profile : {Profile::exact_int8, Profile::exact_int8_head}) {
    const auto run = [&](Ops& ops) {
      Trainer trainer(config, 5, 7, ops, {Purpose::local_steps, false, profile});
      const std::vector<float> weights = test::some_weights(config, 23);
      std::vector<uint16_t> tokens;
      std::vector<float> difference(weights.size());
      const auto next = [&](size_t step) {
        tokens = test::some_tokens(config, 5, 7, step);
        return TokenBatch{5, 7, tokens};
      };
      trainer.local_steps(weights, test::some_adamw(3, 0.05f), next, difference);
      return difference;
    };
    const std::vector<float> expected = run(*make_reference_ops());
    for (const test::Engine& engine : test::fast_engines()) EXPECT_TRUE(same_bits(run(*engine.ops), expected));
  }
}

// Weights whose squares overflow make activations that are not finite: the failure is the loss's.
TEST(Int8Failure, IsNamed) {
  const ModelConfig config{1, 1, 8, 16, 11, 16, 1e-5f};
  std::vector<float> weights = test::some_weights(config, 24), gradient(weights.size());
  for (const Parameter& p : parameters_of(config))
    if (p.name == "transformer.h.0.mlp.c_fc.weight") weights[p.offset + 3] = 3e38f;
  for (const Parameter& p : parameters_of(config))
    if (p.name == "transformer.h.0.ln_2.weight") std::fill_n(weights.begin() + p.offset, p.count, 1e4f);
  const std::vector<uint16_t> tokens = test::some_tokens(config, 2, 13, 25);
  std::vector<std::unique_ptr<Ops>> engines;
  engines.push_back(make_reference_ops());
  for (test::Engine& engine : test::fast_engines()) engines.push_back(std::move(engine.ops));
  for (const auto& ops : engines) {
    Trainer trainer(config, 2, 13, *ops, {Purpose::gradient, false, Profile::exact_int8});
    try {
      trainer.gradient(weights, {2, 13, tokens}, gradient);
      ADD_FAILURE() << ops->name() << " computed a gradient";
    } catch (const NumericFailure& failure) {
      EXPECT_EQ(failure.tensor, "loss");
    }
  }
}

TEST(Int8Limits, TheKeyIsNamed) {
  const std::unique_ptr<Ops> ops = make_cpu_ops(1);
  const auto refusal = [&](const ModelConfig& config, Purpose purpose) -> std::string {
    try {
      Trainer::planned_bytes(config, 1, 2, *ops, {purpose, false, Profile::exact_int8});
      return "none";
    } catch (const std::invalid_argument& refused) {
      return refused.what();
    }
  };
  const std::string limit = " products; supported: at most 133144";
  const ModelConfig wide{1, 1, 44'382, 2, 11, 8, 1e-5f}, wide_llama = test::llama({1, 1, 1, 8, 2, 11, 66'573});
  EXPECT_EQ(refusal(wide, Purpose::gradient), "int8 profiles: n_embd = 44382 makes sums of 133146" + limit);
  EXPECT_EQ(refusal(wide, Purpose::evaluate), "none");
  EXPECT_EQ(refusal(wide_llama, Purpose::gradient),
            "int8 profiles: intermediate_size = 66573 makes sums of 133146" + limit);
  EXPECT_EQ(refusal(test::llama({1, 1, 1, 8, 2, 11, 66'572}), Purpose::gradient), "none");
  EXPECT_EQ(refusal(test::llama({1, 1, 1, 44'382, 2, 11, 8}), Purpose::gradient),
            "int8 profiles: hidden_size = 44382 makes sums of 133146" + limit);
}

TEST(Int8Limits, SumsBeyondInt32AreRefused) {
  const std::unique_ptr<Ops> ops = make_cpu_ops(1);
  const ModelConfig wide{1, 1, 8, 16, 11, int8_terms + 1, 1e-5f};
  const ModelConfig long_context{1, 1, 8, int8_terms + 1, 11, 16, 1e-5f};
  for (const Profile profile : {Profile::exact_int8, Profile::exact_int8_head}) {
    const auto bytes = [&](const ModelConfig& config, size_t context, Purpose purpose) {
      return Trainer::planned_bytes(config, 1, context, *ops, {purpose, false, profile});
    };
    EXPECT_THROW(bytes(wide, 13, Purpose::evaluate), std::invalid_argument);
    EXPECT_THROW(bytes(long_context, int8_terms + 1, Purpose::gradient), std::invalid_argument);
    EXPECT_NO_THROW(bytes(long_context, int8_terms + 1, Purpose::evaluate));
    EXPECT_NO_THROW(bytes(long_context, int8_terms, Purpose::gradient));
  }
}

}  // namespace
}  // namespace kernels
