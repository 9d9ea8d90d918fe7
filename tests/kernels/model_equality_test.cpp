// One right answer: the fast engine on each SIMD path, with 1, 2 and 7 threads, gives the reference's bits for whole
// gradients, local steps and losses.
#include <gtest/gtest.h>

#include <cstring>

#include "kernels/training.h"
#include "model_test_util.h"

namespace kernels {
namespace {

using test::Case;
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

TEST(EqualityOfLocalSteps, ThreeClippedSteps) {
  const Case shape{"", {2, 3, 15, 9, 13, 37, 1e-5f}, 5, 7};
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

}  // namespace
}  // namespace kernels
