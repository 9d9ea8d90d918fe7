// Training in `fast`: near exact-fp32 and not it, the same bits however it is computed, and only where there are
// kernels for it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "fast_test_util.h"
#include "model_test_util.h"
#include "simt_ops.h"

namespace kernels::cuda {
namespace {

using kernels::test::Case;
using kernels::test::llama;
using kernels::test::SimtOps;
using test::both_halves;
using test::Values;
using Purpose = Trainer::Purpose;

const Case fast_cases[] = {
    // layers, heads, channels, positions, vocabulary, inner
    {"gpt2_odd_everything", {2, 3, 15, 9, 13, 37, 1e-5f}, 5, 7},
    {"gpt2_head_size_64", {2, 2, 128, 70, 61, 96, 1e-5f}, 1, 66},
    {"gpt2_one_token", {1, 2, 12, 4, 17, 48, 1e-5f}, 1, 1},
    {"llama_odd_everything", llama({2, 3, 3, 18, 9, 13, 37}), 5, 7},
    {"llama_tied", llama({2, 4, 2, 16, 9, 17, 20, true}), 3, 9},
};

struct UnitResults {
  Values gradient, losses;
};

UnitResults unit_by(const Case& shape, Ops& ops, Profile profile, bool recompute = false) {
  const auto& [name, config, batch, context] = shape;
  const Values weights = kernels::test::some_weights(config, 21);
  const std::vector<uint16_t> tokens = kernels::test::some_tokens(config, batch, context, 22);
  UnitResults results{Values(weights.size()), {}};
  Trainer trainer(config, batch, context, ops, {Purpose::gradient, recompute, profile});
  results.losses = {trainer.gradient(weights, {batch, context, tokens}, results.gradient)};
  Trainer evaluator(config, batch, context, ops, {Purpose::evaluate, false, profile});
  for (const float loss : evaluator.evaluate(weights, {batch, context, tokens})) results.losses.push_back(loss);
  return results;
}

class CudaFastModel : public testing::TestWithParam<Case> {};

// Operands are rounded by at most 2^-9 (bf16) or 2^-12 (fp16) of theirs; a gradient has gone through some dozens of
// products. Tiny models, whose sums are short, show more of it than large ones.
TEST_P(CudaFastModel, NearFp32) {
  const UnitResults exact = unit_by(GetParam(), *make_cpu_ops(1), Profile::exact_fp32);
  for (const HalfPrecision half : both_halves) {
    SimtOps ops(simt::Order::upward, Int8Arithmetic::m16n8k32, half);
    const UnitResults fast = unit_by(GetParam(), ops, Profile::fast);
    const double error = test::half_error(half);
    EXPECT_LT(test::relative_error(fast.gradient, exact.gradient), 8 * error) << name_of(half);
    EXPECT_GT(test::relative_error(fast.gradient, exact.gradient), error / 64) << name_of(half);
    ASSERT_EQ(fast.losses.size(), exact.losses.size());
    for (size_t i = 0; i < fast.losses.size(); ++i)
      EXPECT_NEAR(fast.losses[i], exact.losses[i], static_cast<float>(error) * exact.losses[i]) << name_of(half);
  }
}

// Threads in the other order, and activations computed again.
TEST_P(CudaFastModel, RepeatsItself) {
  for (const HalfPrecision half : both_halves) {
    SimtOps upward(simt::Order::upward, Int8Arithmetic::m16n8k32, half);
    SimtOps downward(simt::Order::downward, Int8Arithmetic::m16n8k32, half);
    const UnitResults first = unit_by(GetParam(), upward, Profile::fast);
    const UnitResults second = unit_by(GetParam(), downward, Profile::fast, true);
    test::expect_same_bits(second.gradient, first.gradient, name_of(half));
    test::expect_same_bits(second.losses, first.losses, name_of(half));
  }
}

INSTANTIATE_TEST_SUITE_P(, CudaFastModel, testing::ValuesIn(fast_cases),
                         [](const auto& shape) { return std::string(shape.param.name); });

// The gradients of two blocks add up to the whole, all with the scale of fp16 undone.
TEST(CudaFastUnit, BlocksAddUp) {
  const ModelConfig config{1, 2, 8, 100, 29, 32, 1e-5f};
  const Values weights = kernels::test::some_weights(config, 1);
  const std::vector<uint16_t> tokens = kernels::test::some_tokens(config, 12, 100, 2);
  Values exact(weights.size());
  const std::unique_ptr<Ops> cpu = make_cpu_ops(1);
  Trainer(config, 12, 100, *cpu, {Purpose::gradient}).gradient(weights, {12, 100, tokens}, exact);
  for (const HalfPrecision half : both_halves) {
    SimtOps ops(simt::Order::upward, Int8Arithmetic::m16n8k32, half);
    Trainer trainer(config, 12, 100, ops, {Purpose::block_gradients, false, Profile::fast});
    Values sum(weights.size()), whole(weights.size()), again(weights.size());
    trainer.gradient(weights, {12, 100, tokens}, whole, [&](size_t, std::span<const float> block) {
      for (size_t i = 0; i < block.size(); ++i) sum[i] += block[i];
    });
    EXPECT_LT(test::relative_error(sum, whole), 1e-6);
    EXPECT_LT(test::relative_error(whole, exact), 8 * test::half_error(half));
    trainer.gradient(weights, {12, 100, tokens}, again);
    test::expect_same_bits(again, whole, name_of(half));
  }
}

// Steps follow those in fp32, and repeat themselves.
TEST(CudaFastUnit, LocalSteps) {
  const ModelConfig config{2, 3, 15, 9, 13, 37, 1e-5f};
  const auto losses_by = [&](Ops& ops, Profile profile, Values& difference) {
    const Values weights = kernels::test::some_weights(config, 23);
    std::vector<uint16_t> tokens;
    const auto next = [&](size_t step) {
      tokens = kernels::test::some_tokens(config, 5, 7, step);
      return TokenBatch{5, 7, tokens};
    };
    difference.resize(weights.size());
    Trainer trainer(config, 5, 7, ops, {Purpose::local_steps, false, profile});
    return trainer.local_steps(weights, kernels::test::some_adamw(4, 0.05f), next, difference);
  };
  Values exact_difference, difference, again;
  const Values exact = losses_by(*make_cpu_ops(1), Profile::exact_fp32, exact_difference);
  for (const HalfPrecision half : both_halves) {
    SimtOps upward(simt::Order::upward, Int8Arithmetic::m16n8k32, half);
    SimtOps downward(simt::Order::downward, Int8Arithmetic::m16n8k32, half);
    const Values fast = losses_by(upward, Profile::fast, difference);
    losses_by(downward, Profile::fast, again);
    test::expect_same_bits(again, difference, name_of(half));
    for (size_t i = 0; i < exact.size(); ++i)
      EXPECT_NEAR(fast[i], exact[i], static_cast<float>(test::half_error(half)) * exact[i]) << name_of(half);
    // AdamW's first steps are as large where a gradient is near 0 and rounding decides its sign.
    EXPECT_LT(test::relative_error(difference, exact_difference), 0.2) << name_of(half);
  }
}

// Tokens that do not occur have gradients through their small probabilities alone, which fp16 holds only because they
// are scaled.
TEST(CudaFastUnit, SmallGradientsSurviveFp16) {
  const Case shape{"", {1, 1, 8, 64, 5003, 16, 1e-5f}, 1, 64};
  const UnitResults exact = unit_by(shape, *make_cpu_ops(1), Profile::exact_fp32);
  SimtOps ops(simt::Order::upward, Int8Arithmetic::m16n8k32, HalfPrecision::fp16);
  const UnitResults fast = unit_by(shape, ops, Profile::fast);
  const std::vector<uint16_t> tokens = kernels::test::some_tokens(shape.config, 1, 64, 22);  // of unit_by()
  Values got, expected;
  for (size_t i = 0; i < shape.config.vocabulary * shape.config.channels; ++i) {  // the embedding comes first
    if (std::ranges::count(tokens, i / shape.config.channels) > 0) continue;
    got.push_back(fast.gradient[i]);
    expected.push_back(exact.gradient[i]);
  }
  EXPECT_LT(test::relative_error(got, expected), 2 * test::half_error(HalfPrecision::fp16));
}

// Activations beyond fp16, which bf16 holds.
TEST(CudaFastUnit, OverflowIsANumericFailure) {
  const ModelConfig config{1, 1, 8, 16, 11, 16, 1e-5f};
  Values weights = kernels::test::some_weights(config, 24), gradient(weights.size());
  for (const Parameter& p : parameters_of(config)) {
    if (p.name == "transformer.h.0.mlp.c_fc.bias")
      std::fill_n(weights.begin() + static_cast<long>(p.offset), p.count, 1e5f);
  }
  const std::vector<uint16_t> tokens = kernels::test::some_tokens(config, 2, 13, 25);
  for (const HalfPrecision half : both_halves) {
    SimtOps ops(simt::Order::upward, Int8Arithmetic::m16n8k32, half);
    Trainer trainer(config, 2, 13, ops, {Purpose::gradient, false, Profile::fast});
    if (half == HalfPrecision::bf16) {
      EXPECT_NO_THROW(trainer.gradient(weights, {2, 13, tokens}, gradient));
    } else {
      EXPECT_THROW(trainer.gradient(weights, {2, 13, tokens}, gradient), NumericFailure);
    }
  }
}

// What docs/memory.md says that differs from exact-fp32, in floats.
double fewer_activations(const ModelConfig& config, double M) {
  const double C = static_cast<double>(config.channels), F = static_cast<double>(config.inner);
  const double V = static_cast<double>(config.vocabulary), L = static_cast<double>(config.layers);
  const double E = static_cast<double>((config.heads + 2 * config.kv_heads) * config.head_size());
  const bool llama = config.family == Family::llama;
  const double layer = llama ? 0.5 * E - 0.5 * C + 1.5 * F : C + F;
  const double gradients =
      llama ? -0.5 * C + 0.5 * std::max(C, F) + 0.5 * std::max(E, 2 * F) : 0.5 * std::max(3 * C, F);
  return M * (L * layer + 1.5 * C + gradients + V - 0.5 * std::ceil(V / 8) * 8);
}

double linear_weights(const ModelConfig& config) {
  double count = 0;
  for (const Parameter& p : parameters_of(config)) {
    const bool position_or_norm = p.name.find("wpe") != std::string::npos || p.name.find("norm") != std::string::npos ||
                                  p.name.find("ln_") != std::string::npos;
    const bool untied_embedding = !config.tied_head && p.name == "model.embed_tokens.weight";
    if (!position_or_norm && !untied_embedding) count += static_cast<double>(p.count);
  }
  return count;
}

TEST(CudaFastUnit, PlansWhatTheDocumentSays) {
  for (const ModelConfig& config :
       {ModelConfig{3, 4, 128, 64, 1001, 512, 1e-5f}, llama({3, 4, 2, 128, 64, 1001, 320})}) {
    const auto planned = [&](Profile profile) {
      SimtOps engine(simt::Order::upward);
      return static_cast<double>(Trainer::planned_bytes(config, 4, 64, engine, {Purpose::gradient, false, profile}));
    };
    const double expected =
        planned(Profile::exact_fp32) - 4 * fewer_activations(config, 256) + 2 * linear_weights(config);
    EXPECT_NEAR(planned(Profile::fast) / expected, 1, 0.002);
  }
}

TEST(CudaFastUnit, HeadsAreOfAtMost128Dimensions) {
  SimtOps ops(simt::Order::upward);
  try {
    Trainer({1, 1, 129, 16, 11, 16, 1e-5f}, 2, 13, ops, {Purpose::gradient, false, Profile::fast});
    ADD_FAILURE();
  } catch (const std::invalid_argument& refusal) {
    EXPECT_STREQ(refusal.what(), "trainer: fast/1 takes heads of at most 128 dimensions; this model's have 129");
  }
}

TEST(CudaFastUnit, IsRefusedWithoutKernels) {
  const ModelConfig config{1, 1, 8, 16, 11, 16, 1e-5f};
  std::vector<std::unique_ptr<Ops>> engines;
  engines.push_back(make_reference_ops());
  engines.push_back(make_cpu_ops(1));
  engines.push_back(std::make_unique<SimtOps>(simt::Order::upward, Int8Arithmetic::dp4a, HalfPrecision::none));
  for (const std::unique_ptr<Ops>& ops : engines) {
    try {
      Trainer(config, 2, 13, *ops, {Purpose::gradient, false, Profile::fast});
      ADD_FAILURE() << ops->name() << " computes it";
    } catch (const std::invalid_argument& refusal) {
      EXPECT_EQ(
          refusal.what(),
          "trainer: fast/1 needs a card with tensor cores, of compute capability 7.5 or later; this is " + ops->name());
    }
    EXPECT_THROW(Trainer::planned_bytes(config, 2, 13, *ops, {Purpose::evaluate, false, Profile::fast}),
                 std::invalid_argument);
  }
}

}  // namespace
}  // namespace kernels::cuda
