// The trainer on the reference operations: against finite differences, against itself, and its refusals.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/forwarding_ops.h"
#include "kernels/training.h"
#include "model_test_util.h"

namespace kernels {
namespace {

using test::some_adamw;
using test::some_tokens;
using test::some_weights;
using Purpose = Trainer::Purpose;

const ModelConfig tiny{2, 3, 12, 10, 7, 20, 1e-5f};

class TrainerTest : public testing::Test {
 protected:
  Trainer trainer(Purpose purpose, size_t batch, size_t context) { return {tiny, batch, context, *ops_, purpose}; }

  std::unique_ptr<Ops> ops_ = make_reference_ops();
  const std::vector<Parameter> parameters_ = parameters_of(tiny);
  std::vector<float> weights_ = some_weights(tiny, 1);
  std::vector<float> result_ = std::vector<float>(weights_.size());
};

// Along the gradient itself and along a random direction, tensor by tensor.
void expect_finite_differences(const ModelConfig& config) {
  const auto ops = make_reference_ops();
  std::vector<float> weights = some_weights(config, 1), gradients(weights.size()), other(weights.size());
  for (float& w : weights) w *= 4;  // away from uniform outputs
  const size_t batch = 3, context = 5;
  Trainer trainer(config, batch, context, *ops, Purpose::gradient);
  const std::vector<uint16_t> tokens = some_tokens(config, batch, context, 2);
  const TokenBatch rows{batch, context, tokens};
  trainer.gradient(weights, rows, gradients);

  std::mt19937_64 random(3);
  const auto slope = [&](const Parameter& parameter, const std::vector<double>& direction, double h) {
    double loss[2];
    for (int side : {0, 1}) {
      std::vector<float> moved = weights;
      for (size_t i = 0; i < parameter.count; ++i)
        moved[parameter.offset + i] += static_cast<float>((side == 0 ? h : -h) * direction[i]);
      loss[side] = trainer.gradient(moved, rows, other);
    }
    return (loss[0] - loss[1]) / (2 * h);
  };
  for (const Parameter& parameter : parameters_of(config)) {
    const float* g = gradients.data() + parameter.offset;
    double norm = 0;
    for (size_t i = 0; i < parameter.count; ++i) norm += double{g[i]} * g[i];
    norm = std::sqrt(norm);
    ASSERT_GT(norm, 1e-4) << parameter.name;
    std::vector<double> along(parameter.count), across(parameter.count);
    double expected = 0;
    for (size_t i = 0; i < parameter.count; ++i) {
      along[i] = g[i] / norm;
      across[i] = (random() % 2 == 0 ? 1 : -1) / std::sqrt(static_cast<double>(parameter.count));
      expected += across[i] * g[i];
    }
    const double h = std::min(2e-3 / norm, 0.02);
    EXPECT_NEAR(slope(parameter, along, h), norm, 0.01 * norm) << parameter.name;
    EXPECT_NEAR(slope(parameter, across, h), expected, 0.01 * norm) << parameter.name;
  }
}

TEST(Gradient, AgreesWithFiniteDifferences) {
  expect_finite_differences(tiny);
  expect_finite_differences(test::llama({2, 4, 2, 16, 10, 7, 20}));
  expect_finite_differences(test::llama({1, 2, 2, 12, 10, 7, 20, true}));
}

void expect_block_gradients_add_up(const ModelConfig& config) {
  const auto ops = make_reference_ops();
  const size_t batch = 25, context = 100;  // 11 sequences a block: 11, 11, 3
  const std::vector<float> weights = some_weights(config, 4);
  const std::vector<uint16_t> tokens = some_tokens(config, batch, context, 5);
  const size_t count = weights.size(), embedding = config.vocabulary * config.channels;
  std::vector<float> whole(count), with_blocks(count), sum(count, 0.0f);

  Trainer plain(config, batch, context, *ops, Purpose::gradient);
  Trainer blocks(config, batch, context, *ops, Purpose::block_gradients);
  ASSERT_EQ(blocks.block_count(), 3u);
  const float loss = plain.gradient(weights, {batch, context, tokens}, whole);
  size_t seen = 0;
  const auto on_block = [&](size_t block, std::span<const float> gradient) {
    EXPECT_EQ(block, seen++);
    ops->add(gradient.data(), sum.data(), count);
  };
  EXPECT_EQ(blocks.gradient(weights, {batch, context, tokens}, with_blocks, on_block), loss);
  EXPECT_EQ(seen, 3u);
  EXPECT_EQ(whole, with_blocks);
  for (size_t i = 0; i < count; ++i) {
    if (config.tied_head && i < embedding) {
      ASSERT_NEAR(sum[i], whole[i], 1e-6) << i;  // two sums there, one here
    } else {
      ASSERT_EQ(sum[i], whole[i]) << i;
    }
  }
}

TEST(BlockGradients, AddUpToTheGradient) {
  expect_block_gradients_add_up({1, 2, 8, 100, 11, 12, 1e-5f});
  expect_block_gradients_add_up(test::llama({1, 2, 1, 8, 100, 11, 12}));
  expect_block_gradients_add_up(test::llama({1, 2, 1, 8, 100, 11, 12, true}));
}

TEST_F(TrainerTest, EvaluateGivesTheGradientsLoss) {
  const size_t batch = 4, context = 7;
  const std::vector<uint16_t> tokens = some_tokens(tiny, batch, context, 6);
  const float loss = trainer(Purpose::gradient, batch, context).gradient(weights_, {batch, context, tokens}, result_);
  EXPECT_EQ(trainer(Purpose::evaluate, batch, context).evaluate(weights_, {batch, context, tokens}),
            std::vector<float>{loss});
}

TEST_F(TrainerTest, LogitsGiveTheEvaluatedLoss) {
  const std::vector<uint16_t> tokens = {3, 1, 4, 1, 5};
  Trainer evaluator = trainer(Purpose::evaluate, 1, 4);
  std::vector<float> logits(tiny.vocabulary);
  double loss = 0;
  for (size_t n = 1; n <= 4; ++n) {
    evaluator.logits(weights_, {tokens.data(), n}, logits);
    double sum = 0;
    for (float x : logits) sum += std::exp(double{x});
    loss += std::log(sum) - logits[tokens[n]];
  }
  EXPECT_NEAR(evaluator.evaluate(weights_, {1, 4, tokens}).at(0), loss / 4, 1e-6);
}

TEST_F(TrainerTest, OneLocalStepIsClippedAdamWOnTheGradient) {
  const size_t batch = 2, context = 6;
  const std::vector<uint16_t> tokens = some_tokens(tiny, batch, context, 8);
  const TokenBatch rows{batch, context, tokens};
  const LocalAdamW adamw = some_adamw(1, 0.01f);
  std::vector<float> gradient(weights_.size()), stepped = weights_;
  trainer(Purpose::gradient, batch, context).gradient(weights_, rows, gradient);

  const float d = norm_of(*ops_, parameters_, gradient) + 1e-6f;
  ASSERT_GT(d, 0.01f);
  for (const Parameter& parameter : parameters_)
    for (size_t i = parameter.offset; i < parameter.offset + parameter.count; ++i) {
      const float g = gradient[i] * (0.01f / d);
      const float m = std::fma(adamw.beta1, 0.0f, adamw.one_minus_beta1 * g);
      const float v = std::fma(adamw.beta2, 0.0f, (adamw.one_minus_beta2 * g) * g);
      if (parameter.decays()) stepped[i] = stepped[i] * adamw.steps[0].decay;
      stepped[i] = std::fma(-adamw.steps[0].step_size,
                            m / std::fma(std::sqrt(v), adamw.steps[0].inv_sqrt_bc2, adamw.epsilon), stepped[i]);
    }
  trainer(Purpose::local_steps, batch, context)
      .local_steps(
          weights_, adamw, [&](size_t) { return rows; }, result_);
  for (size_t i = 0; i < weights_.size(); ++i) ASSERT_EQ(result_[i], weights_[i] - stepped[i]) << i;
}

TEST_F(TrainerTest, LocalStepsLearnARepeatedBatch) {
  const size_t batch = 2, context = 8;
  const std::vector<uint16_t> tokens = some_tokens(tiny, batch, context, 9);
  const auto same = [&](size_t) { return TokenBatch{batch, context, tokens}; };
  const std::vector<float> losses =
      trainer(Purpose::local_steps, batch, context).local_steps(weights_, some_adamw(150, 1), same, result_);
  EXPECT_LT(losses.back(), 0.7f * losses.front());
}

std::string failure_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no failure";
}

TEST_F(TrainerTest, NonFiniteWeightsAreNamed) {
  weights_[parameters_[9].offset + 3] = std::numeric_limits<float>::infinity();
  const std::vector<uint16_t> tokens = some_tokens(tiny, 1, 4, 1);
  try {
    trainer(Purpose::gradient, 1, 4).gradient(weights_, {1, 4, tokens}, result_);
    FAIL() << "accepted";
  } catch (const NumericFailure& failure) {
    EXPECT_EQ(failure.tensor, parameters_[9].name);
    EXPECT_EQ(failure.step, 0u);
    EXPECT_NE(std::string(failure.what()).find(parameters_[9].name), std::string::npos);
  }
}

TEST_F(TrainerTest, AnOverflowingStepEndsWithTheLossOfTheNext) {
  const std::vector<uint16_t> tokens = some_tokens(tiny, 1, 4, 1);
  LocalAdamW adamw = some_adamw(5, 0);
  adamw.steps[2].step_size = 3e38f;
  try {
    trainer(Purpose::local_steps, 1, 4)
        .local_steps(
            weights_, adamw,
            [&](size_t) {
              return TokenBatch{1, 4, tokens};
            },
            result_);
    FAIL() << "accepted";
  } catch (const NumericFailure& failure) {
    EXPECT_EQ(failure.tensor, "loss");
    EXPECT_EQ(failure.step, 3u);
  }
}

TEST_F(TrainerTest, AnOverflowingResultIsNamed) {
  const std::vector<uint16_t> tokens = some_tokens(tiny, 1, 4, 1);
  LocalAdamW adamw = some_adamw(2, 0);
  adamw.steps[1].step_size = std::numeric_limits<float>::infinity();
  try {
    trainer(Purpose::local_steps, 1, 4)
        .local_steps(
            weights_, adamw,
            [&](size_t) {
              return TokenBatch{1, 4, tokens};
            },
            result_);
    FAIL() << "accepted";
  } catch (const NumericFailure& failure) {
    EXPECT_EQ(failure.tensor, "transformer.wte.weight");
    EXPECT_EQ(failure.step, 1u);
  }
}

TEST_F(TrainerTest, NormNamesATensorThatIsNotFinite) {
  result_[parameters_[5].offset] = NAN;
  try {
    norm_of(*ops_, parameters_, result_, 4);
    FAIL() << "accepted";
  } catch (const NumericFailure& failure) {
    EXPECT_EQ(failure.tensor, parameters_[5].name);
    EXPECT_EQ(failure.step, 4u);
  }
}

TEST_F(TrainerTest, CancelIsHeardSeveralTimesPerLayer) {
  const std::vector<uint16_t> tokens = some_tokens(tiny, 1, 4, 1);
  Trainer with_gradient = trainer(Purpose::gradient, 1, 4);
  size_t asked = 0;
  with_gradient.gradient(weights_, {1, 4, tokens}, result_, {}, [&] {
    ++asked;
    return false;
  });
  EXPECT_GE(asked, 4 * tiny.layers);
  size_t left = 7;
  EXPECT_THROW(with_gradient.gradient(weights_, {1, 4, tokens}, result_, {}, [&] { return --left == 0; }), Cancelled);
  EXPECT_EQ(left, 0u);
}

TEST_F(TrainerTest, ATokenOutsideTheVocabularyIsPlaced) {
  std::vector<uint16_t> tokens = some_tokens(tiny, 3, 4, 1);
  tokens[2 * 5 + 4] = 7;  // the last target
  const std::string message = failure_of([&] { trainer(Purpose::evaluate, 3, 4).evaluate(weights_, {3, 4, tokens}); });
  EXPECT_NE(message.find("token 7 in row 2, column 4 is outside the vocabulary of 7"), std::string::npos) << message;
}

TEST_F(TrainerTest, WrongShapesAndPurposesAreRefused) {
  const std::vector<uint16_t> tokens = some_tokens(tiny, 3, 4, 1);
  EXPECT_THROW(trainer(Purpose::gradient, 1, 11), std::invalid_argument);  // context > positions
  EXPECT_THROW(trainer(Purpose::gradient, 0, 4), std::invalid_argument);
  EXPECT_THROW(trainer(Purpose::gradient, 1, 0), std::invalid_argument);
  Trainer with_gradient = trainer(Purpose::gradient, 2, 4);
  EXPECT_THROW(with_gradient.gradient(weights_, {3, 4, tokens}, result_), std::invalid_argument);
  EXPECT_THROW(with_gradient.gradient(weights_, {2, 4, tokens}, result_), std::invalid_argument);  // 3 rows given
  EXPECT_THROW(with_gradient.evaluate(weights_, {2, 4, {tokens.data(), 10}}), std::logic_error);
  const auto on_block = [](size_t, std::span<const float>) {};
  EXPECT_THROW(with_gradient.gradient(weights_, {2, 4, {tokens.data(), 10}}, result_, on_block), std::logic_error);
}

TEST_F(TrainerTest, PlannedBytesGrowWithWhatThePurposeNeeds) {
  const auto planned = [&](Purpose purpose) { return Trainer::planned_bytes(tiny, 4, 8, *ops_, purpose); };
  const size_t vector = 4 * weights_.size();
  EXPECT_GT(planned(Purpose::gradient), planned(Purpose::evaluate));
  EXPECT_GE(planned(Purpose::block_gradients), planned(Purpose::gradient) + vector);
  EXPECT_GE(planned(Purpose::local_steps), planned(Purpose::gradient) + 3 * vector);
}

// An Ops that wants so many tokens at once.
class WantingOps final : public ForwardingOps {
 public:
  explicit WantingOps(size_t tokens) : ForwardingOps(make_reference_ops()), tokens_(tokens) {}
  size_t wanted_tokens() const override { return tokens_; }

 private:
  const size_t tokens_;
};

// A block is 128 rows of 8 tokens.
struct Chosen {
  size_t blocks;
  bool recompute;
  bool operator==(const Chosen&) const = default;
};

Chosen within(size_t limit, size_t wanted_tokens, size_t blocks, Purpose purpose = Purpose::local_steps) {
  WantingOps ops(wanted_tokens);
  const Trainer::Settings settings = Trainer::settings_within(limit, tiny, blocks * 128 - 3, 8, ops, purpose);
  return {settings.micro_batch, settings.recompute};
}

TEST_F(TrainerTest, TheMicroBatchIsWhatOpsWantInEqualParts) {
  constexpr size_t any = std::numeric_limits<size_t>::max();
  EXPECT_EQ(within(any, 0, 5), Chosen(1, false));
  EXPECT_EQ(within(any, 2047, 5), Chosen(1, false));
  EXPECT_EQ(within(any, 2048, 5), Chosen(2, false));
  EXPECT_EQ(within(any, 4096, 5), Chosen(3, false));  // 3 and 2, not 4 and 1
  EXPECT_EQ(within(any, 1 << 20, 5), Chosen(5, false));
  EXPECT_EQ(within(any, 1 << 20, 5, Purpose::block_gradients), Chosen(1, false));
}

TEST_F(TrainerTest, TheMicroBatchIsWhatFits) {
  const auto planned = [&](size_t blocks, bool recompute) {
    Trainer::Settings settings(Purpose::local_steps, recompute);
    settings.micro_batch = blocks;
    return Trainer::planned_bytes(tiny, 5 * 128 - 3, 8, *ops_, settings);
  };
  EXPECT_LT(planned(1, true), planned(1, false));
  EXPECT_LT(planned(1, false), planned(2, false));
  EXPECT_EQ(within(planned(5, false), 1 << 20, 5), Chosen(5, false));
  EXPECT_EQ(within(planned(5, false) - 1, 1 << 20, 5), Chosen(3, false));
  EXPECT_EQ(within(planned(3, false) - 1, 1 << 20, 5), Chosen(2, false));
  EXPECT_EQ(within(planned(1, false), 1 << 20, 5), Chosen(1, false));
  EXPECT_TRUE(within(planned(1, false) - 1, 1 << 20, 5).recompute);
  EXPECT_EQ(within(planned(1, true), 1 << 20, 5), Chosen(1, true));
  EXPECT_EQ(within(0, 1 << 20, 5), Chosen(1, true));
}

TEST_F(TrainerTest, AMicroBatchOfNoBlocksIsRefused) {
  Trainer::Settings settings(Purpose::gradient);
  settings.micro_batch = 0;
  EXPECT_THROW(Trainer(tiny, 3, 4, *ops_, settings), std::invalid_argument);
  settings = Purpose::block_gradients, settings.micro_batch = 2;
  const std::string message = failure_of([&] { Trainer(tiny, 3, 4, *ops_, settings); });
  EXPECT_NE(message.find("micro-batch of 2 blocks; supported: 1 where each block's gradient is asked for"),
            std::string::npos)
      << message;
}

// The definition: one lane is itself, else T(left) + T(right), left holding the largest power of two below the count.
float tree(const std::vector<float>& lanes, size_t first, size_t count) {
  if (count == 1) return lanes[first];
  size_t left = 1;
  while (2 * left < count) left *= 2;
  return tree(lanes, first, left) + tree(lanes, first + left, count - left);
}

TEST(LaneTreeTest, AddsInTheCanonicalTree) {
  const std::unique_ptr<Ops> ops = make_reference_ops();
  std::mt19937_64 random(1);
  for (size_t lanes = 1; lanes <= 12; ++lanes) {
    constexpr size_t count = 50;
    std::vector<std::vector<float>> values(count, std::vector<float>(lanes));
    LaneTree sum(lanes, count, *ops);
    std::vector<size_t> order(lanes);  // any
    std::iota(order.begin(), order.end(), size_t{0});
    std::shuffle(order.begin(), order.end(), random);
    for (const size_t lane : order) {
      EXPECT_THROW(static_cast<void>(sum.sum()), std::logic_error);
      std::vector<float> result(count);
      for (size_t i = 0; i < count; ++i)
        result[i] = values[i][lane] =
            std::ldexp(static_cast<float>(random() % 1000000), static_cast<int>(random() % 9));
      sum.add(lane, result);
      EXPECT_THROW(sum.add(lane, result), std::logic_error);
    }
    for (size_t i = 0; i < count; ++i) ASSERT_EQ(sum.sum()[i], tree(values[i], 0, lanes)) << lanes << " lanes";
    EXPECT_THROW(sum.add(lanes, std::vector<float>(count)), std::logic_error);
  }
}

// Whichever lanes are in the tree already.
TEST(LaneTreeTest, PartsOfTheSumTakeLanesFromElsewhere) {
  const std::unique_ptr<Ops> ops = make_reference_ops();
  std::mt19937_64 random(2);
  for (size_t lanes = 1; lanes <= 12; ++lanes) {
    constexpr size_t count = 30;
    std::vector<std::vector<float>> values(lanes, std::vector<float>(count));
    LaneTree whole(lanes, count, *ops), some(lanes, count, *ops);
    for (size_t lane = 0; lane < lanes; ++lane) {
      for (float& value : values[lane])
        value = std::ldexp(static_cast<float>(random() % 1000000), static_cast<int>(random() % 9));
      whole.add(lane, values[lane]);
      if (random() % 2 == 0) some.add(lane, std::vector<float>(values[lane]));
    }
    for (const size_t first : {size_t{0}, size_t{13}}) {
      std::vector<float> part(17);
      some.part(first, part, [&](size_t lane) { return std::span(values[lane]).subspan(first, part.size()); });
      EXPECT_TRUE(std::ranges::equal(part, whole.sum().subspan(first, part.size()))) << lanes << " lanes";
    }
  }
}

}  // namespace
}  // namespace kernels
