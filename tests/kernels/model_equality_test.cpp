// One right answer: the fast engine on each SIMD path, with 1, 2 and 7 threads, gives the reference's bits for whole
// gradients, local steps and losses.
#include <gtest/gtest.h>

#include <cstring>

#include "kernels/training.h"
#include "model_test_util.h"

namespace kernels {
namespace {

using test::Case;
using test::llama;
using Purpose = Trainer::Purpose;

const Case cases[] = {
    // layers, heads, channels, positions, vocabulary, inner
    {"odd_everything", {2, 3, 15, 9, 13, 37, 1e-5f}, 5, 7},
    {"head_size_64", {1, 2, 128, 40, 61, 96, 1e-5f}, 2, 33},
    {"head_size_80", {1, 1, 80, 19, 33, 100, 1e-6f}, 3, 19},
    {"head_size_1", {1, 2, 2, 8, 3, 1, 1e-5f}, 2, 8},
    {"one_token", {2, 2, 12, 4, 17, 48, 1e-5f}, 1, 1},
    {"context_of_one_three_blocks", {1, 2, 8, 3, 17, 12, 1e-5f}, 2050, 1},
    {"three_blocks", {2, 2, 8, 100, 29, 32, 1e-5f}, 25, 100},
    {"a_block_longer_than_a_chunk", {1, 1, 4, 2100, 11, 8, 1e-5f}, 2, 2100},
    {"inner_longer_than_a_chunk", {1, 1, 8, 16, 11, 2100, 1e-5f}, 2, 13},
    {"vocabulary_longer_than_a_segment", {1, 1, 8, 16, 5003, 24, 1e-5f}, 3, 11},
    {"llama_odd_everything", llama({2, 3, 3, 18, 9, 13, 37}), 5, 7},
    {"llama_tied", llama({2, 2, 1, 12, 9, 17, 20, true}), 3, 9},
    {"llama_four_heads_a_key", llama({1, 8, 2, 128, 40, 61, 96}), 2, 33},
    {"llama_head_size_80", llama({1, 2, 1, 160, 19, 33, 100}), 3, 19},
    {"llama_head_size_2", llama({1, 2, 2, 4, 8, 3, 1}), 2, 8},
    {"llama_one_token", llama({2, 2, 1, 12, 4, 17, 48}), 1, 1},
    {"llama_three_blocks", llama({2, 4, 2, 16, 100, 29, 32}), 25, 100},
    {"llama_a_block_longer_than_a_chunk", llama({1, 2, 1, 8, 2100, 11, 8}), 1, 2100},
};

class Equality : public testing::TestWithParam<Case> {};

void expect_same_bits(const std::vector<float>& expected, const std::vector<float>& actual,
                      const std::vector<Parameter>& parameters, const std::string& who) {
  ASSERT_EQ(expected.size(), actual.size());
  for (const Parameter& p : parameters)
    EXPECT_EQ(std::memcmp(expected.data() + p.offset, actual.data() + p.offset, 4 * p.count), 0)
        << who << ": " << p.name << " differs";
}

struct Results {
  std::vector<float> gradient, losses;
};

Results gradient_of(const Case& shape, Ops& ops) {
  Trainer trainer(shape.config, shape.batch, shape.context, ops, Purpose::gradient);
  const std::vector<float> weights = test::some_weights(shape.config, 11);
  const std::vector<uint16_t> tokens = test::some_tokens(shape.config, shape.batch, shape.context, 12);
  Results results{std::vector<float>(weights.size()), {}};
  results.losses = {trainer.gradient(weights, {shape.batch, shape.context, tokens}, results.gradient)};
  Trainer evaluator(shape.config, shape.batch, shape.context, ops, Purpose::evaluate);
  for (float loss : evaluator.evaluate(weights, {shape.batch, shape.context, tokens})) results.losses.push_back(loss);
  return results;
}

TEST_P(Equality, GradientAndLosses) {
  const Case& shape = GetParam();
  const Results expected = gradient_of(shape, *make_reference_ops());
  for (const test::Engine& engine : test::fast_engines()) {
    const Results actual = gradient_of(shape, *engine.ops);
    EXPECT_EQ(actual.losses, expected.losses) << engine.name;
    expect_same_bits(expected.gradient, actual.gradient, parameters_of(shape.config), engine.name);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Equality, testing::ValuesIn(cases),
                         [](const auto& shape) { return std::string(shape.param.name); });

void expect_same_local_steps(const Case& shape) {
  const auto run = [&shape](Ops& ops) {
    Trainer trainer(shape.config, shape.batch, shape.context, ops, Purpose::local_steps);
    const std::vector<float> weights = test::some_weights(shape.config, 13);
    std::vector<uint16_t> tokens;
    Results results{std::vector<float>(weights.size()), {}};
    const auto next = [&](size_t step) {
      tokens = test::some_tokens(shape.config, shape.batch, shape.context, step);
      return TokenBatch{shape.batch, shape.context, tokens};
    };
    results.losses = trainer.local_steps(weights, test::some_adamw(3, 0.05f), next, results.gradient);
    return results;
  };
  const Results expected = run(*make_reference_ops());
  for (const test::Engine& engine : test::fast_engines()) {
    const Results actual = run(*engine.ops);
    EXPECT_EQ(actual.losses, expected.losses) << engine.name;
    expect_same_bits(expected.gradient, actual.gradient, parameters_of(shape.config), engine.name);
  }
}

TEST(EqualityOfLocalSteps, ThreeClippedSteps) {
  expect_same_local_steps({"", {2, 3, 15, 9, 13, 37, 1e-5f}, 5, 7});
  expect_same_local_steps({"", llama({2, 4, 2, 16, 9, 13, 37}), 5, 7});
}

// Activations computed again are the same bits.
TEST(EqualityOfRecomputation, ChangesNothing) {
  for (const ModelConfig& config : {ModelConfig{3, 3, 15, 9, 13, 37, 1e-5f}, llama({3, 4, 2, 16, 9, 13, 37})}) {
    const std::vector<float> weights = test::some_weights(config, 14);
    const std::vector<uint16_t> tokens = test::some_tokens(config, 150, 9, 15);
    const auto ops = make_cpu_ops(2);
    std::vector<float> gradients[2];
    for (const bool recompute : {false, true}) {
      gradients[recompute].resize(weights.size());
      Trainer trainer(config, 150, 9, *ops, {Purpose::gradient, recompute});
      trainer.gradient(weights, {150, 9, tokens}, gradients[recompute]);
    }
    expect_same_bits(gradients[0], gradients[1], parameters_of(config), "recomputed");
  }
}

// Four blocks, the last not full, one at a time, in pairs, three and one, and all at once.
TEST(EqualityOfMicroBatches, AnyNumberOfBlocksGivesTheSameBits) {
  constexpr size_t batch = 40, context = 100;
  for (const ModelConfig& config :
       {ModelConfig{2, 3, 15, context, 13, 37, 1e-5f}, llama({2, 4, 2, 16, context, 13, 37})}) {
    const std::vector<float> weights = test::some_weights(config, 16);
    const std::vector<uint16_t> tokens = test::some_tokens(config, batch, context, 17);
    for (const Profile profile : profiles()) {
      const auto ops = make_cpu_ops(2);
      const auto run = [&](size_t blocks, bool recompute) {
        Trainer::Settings settings{Purpose::local_steps, recompute, profile};
        settings.micro_batch = blocks;
        Trainer trainer(config, batch, context, *ops, settings);
        Results results{std::vector<float>(weights.size()), {}};
        const auto next = [&](size_t) { return TokenBatch{batch, context, tokens}; };
        results.losses = trainer.local_steps(weights, test::some_adamw(2, 0.05f), next, results.gradient);
        settings.purpose = Purpose::evaluate;
        Trainer evaluator(config, batch, context, *ops, settings);
        for (float loss : evaluator.evaluate(weights, {batch, context, tokens})) results.losses.push_back(loss);
        return results;
      };
      const Results expected = run(1, false);
      EXPECT_EQ(expected.losses.size(), 2u + 4);
      for (const size_t blocks : {2, 3, 4, 5}) {
        const Results actual = run(blocks, blocks == 3);
        const std::string who = name_of(profile) + ", " + std::to_string(blocks) + " blocks";
        EXPECT_EQ(actual.losses, expected.losses) << who;
        expect_same_bits(expected.gradient, actual.gradient, parameters_of(config), who);
      }
    }
  }
}

}  // namespace
}  // namespace kernels
