// A Trainer on a card: its way through the driver, but for the driver (tests/fakes/fake_cuda.h), whose memory faults
// where the host touches it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "fake_cuda.h"
#include "fake_library.h"
#include "golden.h"
#include "kernels/cuda_cards.h"
#include "kernels/forwarding_ops.h"
#include "kernels/training.h"
#include "model_test_util.h"

namespace kernels::test {

void PrintTo(const GoldenUnit& unit, std::ostream* out) { *out << unit.name; }

namespace {

using Purpose = Trainer::Purpose;
using Values = std::vector<float>;

constexpr char bus_id[] = "0000:0A:00.0";

// The driver of the tests; from now on also where libcuda.so.1 is asked for.
fakes::FakeCuda& fake() {
  static auto& seen = fakes::seen_by<fakes::FakeCudaFunction>(FAKE_CUDA, "fake_cuda");
  return seen;
}

std::unique_ptr<Ops> open_card(size_t bytes = 6'371'475'456, const std::string& fail = "") {
  fake();
  setenv("FAKE_CUDA_CARDS", (std::string(bus_id) + ",8.6," + std::to_string(bytes) + ",Card").c_str(), 1);
  setenv("FAKE_CUDA_FAIL", fail.c_str(), 1);
  unsetenv("FAKE_CUDA_HANG");
  return make_cuda_ops(cuda_cards().cards.at(0));
}

std::string error_of(const std::function<void()>& body) { return fakes::error_of<std::exception>(body); }

// What a trainer computes of a batch of 2 rows of 5.
class Computation {
  const ModelConfig config_;
  Ops& ops_;
  const Profile profile_;
  const std::vector<uint16_t> tokens_ = some_tokens(config_, 2, 5, 2);
  const TokenBatch rows_{2, 5, tokens_};

 public:
  Computation(const ModelConfig& config, Ops& ops, Profile profile = Profile::exact_fp32)
      : config_(config), ops_(ops), profile_(profile) {}

  Values gradient(const Cancel& cancel = {}) {
    Trainer trainer = make(Purpose::gradient);
    Values result(weights.size());
    result.push_back(trainer.gradient(weights, rows_, {result.data(), weights.size()}, {}, cancel));
    return result;
  }
  // Each block's gradient, then theirs together.
  Values block_gradients() {
    Trainer trainer = make(Purpose::block_gradients);
    Values results, result(weights.size());
    const auto on_block = [&](size_t, std::span<const float> block) {
      results.insert(results.end(), block.begin(), block.end());
    };
    results.push_back(trainer.gradient(weights, rows_, result, on_block));
    results.insert(results.end(), result.begin(), result.end());
    return results;
  }
  Values local_steps(Trainer& trainer) {
    Values result(weights.size());
    const auto next = [&](size_t) { return rows_; };
    const Values losses = trainer.local_steps(weights, some_adamw(2, 0.05f), next, result);
    result.insert(result.end(), losses.begin(), losses.end());
    return result;
  }
  Values local_steps() {
    Trainer trainer = make(Purpose::local_steps);
    return local_steps(trainer);
  }
  Values evaluation() {
    Trainer trainer = make(Purpose::evaluate);
    Values results = trainer.evaluate(weights, rows_), logits(config_.vocabulary);
    trainer.logits(weights, rows_.tokens.first(3), logits);
    results.insert(results.end(), logits.begin(), logits.end());
    return results;
  }
  Trainer make(Purpose purpose) { return {config_, 2, 5, ops_, {purpose, false, profile_}}; }

  Values weights = some_weights(config_, 1);
};

const ModelConfig gpt2{1, 2, 8, 6, 11, 12, 1e-5f};

void expect_same_bits(const Values& got, const Values& expected, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)), 0) << what;
}

class Card : public testing::Test {
 protected:
  void TearDown() override {
    EXPECT_EQ(fake().allocations, 0);
    EXPECT_EQ(fake().contexts, 0);
  }
};

TEST_F(Card, EveryComputationGivesTheReferencesBits) {
  const std::unique_ptr<Ops> card = open_card(), reference = make_reference_ops();
  const std::pair<ModelConfig, Profile> models[] = {{gpt2, Profile::exact_int8},
                                                    {gpt2, Profile::exact_int8_head},
                                                    {llama({1, 2, 1, 8, 6, 11, 12}), Profile::exact_fp32}};
  for (const auto& [config, profile] : models) {
    Computation on_card(config, *card, profile), expected(config, *reference, profile);
    const std::string what = parameters_of(config).back().name + ", " + name_of(profile);
    expect_same_bits(on_card.gradient(), expected.gradient(), what + ": gradient");
    expect_same_bits(on_card.block_gradients(), expected.block_gradients(), what + ": block gradients");
    expect_same_bits(on_card.local_steps(), expected.local_steps(), what + ": local steps");
    expect_same_bits(on_card.evaluation(), expected.evaluation(), what + ": evaluation");
  }
}

TEST_F(Card, KeptWeightsAreCopiedOnce) {
  const std::unique_ptr<Ops> card = open_card();
  Computation lane(gpt2, *card);
  Trainer trainer = lane.make(Purpose::local_steps);
  const size_t weights = lane.weights.size() * sizeof(float);
  trainer.keep(lane.weights);
  card->free_bytes();  // asked for after all copies were
  const size_t before = fake().bytes_in, out = fake().bytes_out;
  const Values first = lane.local_steps(trainer), second = lane.local_steps(trainer);
  EXPECT_LT(fake().bytes_in - before, weights);
  EXPECT_LT(fake().bytes_out - out, 3 * weights) << "a result leaves the card once";
  expect_same_bits(first, lane.local_steps(), "with kept weights");
  expect_same_bits(second, first, "again");
  lane.weights.front() += 1;
  trainer.keep(lane.weights);
  expect_same_bits(lane.local_steps(trainer), lane.local_steps(), "with others");
}

TEST_F(Card, AResultMayStayOnTheCard) {
  const std::unique_ptr<Ops> card = open_card();
  Computation computation(gpt2, *card);
  const Values weights = computation.weights;
  const auto read = [&](std::span<const float> on_card) {
    Values values(on_card.size());
    card->read(values.data(), on_card.data(), on_card.size_bytes());
    return values;
  };
  const std::vector<uint16_t> tokens = some_tokens(gpt2, 2, 5, 2);
  const TokenBatch rows{2, 5, tokens};

  Trainer steps = computation.make(Purpose::local_steps);
  const size_t before = fake().bytes_out;
  Values result = steps.local_steps(weights, some_adamw(2, 0.05f), [&](size_t) { return rows; }, {});
  EXPECT_LT(fake().bytes_out - before, weights.size() * sizeof(float));
  const Values difference = read(steps.result());
  result.insert(result.begin(), difference.begin(), difference.end());
  expect_same_bits(result, computation.local_steps(), "local steps");

  Trainer blocks = computation.make(Purpose::block_gradients);
  Values results;
  const auto on_block = [&](size_t, std::span<const float> block) { results = read(block); };
  results.push_back(blocks.gradient(weights, rows, {}, on_block));
  const Values sum = read(blocks.result());
  results.insert(results.end(), sum.begin(), sum.end());
  expect_same_bits(results, computation.block_gradients(), "block gradients");

  EXPECT_THROW(computation.make(Purpose::evaluate).result(), std::logic_error);
  const std::unique_ptr<Ops> cpu = make_cpu_ops(1);
  Trainer on_host(gpt2, 2, 5, *cpu, Purpose::gradient);
  EXPECT_THROW(on_host.gradient(weights, rows, {}), std::invalid_argument) << "nowhere to stay";
  EXPECT_THROW(on_host.result(), std::logic_error);
}

TEST_F(Card, ANumericFailureNamesTheTensor) {
  const std::unique_ptr<Ops> card = open_card();
  Computation failing(gpt2, *card);
  const Parameter parameter = parameters_of(gpt2).at(4);
  failing.weights[parameter.offset] = NAN;
  EXPECT_EQ(error_of([&] { failing.gradient(); }), "numeric failure: " + parameter.name + " is not finite at step 0");
  failing.weights[parameter.offset] = 3e38f;
  EXPECT_EQ(error_of([&] { failing.gradient(); }), "numeric failure: loss is not finite at step 0");
}

// An element of the gradient becomes NaN before its norm is taken.
class FailingGradient : public ForwardingOps {
  const size_t element_;

 public:
  FailingGradient(std::unique_ptr<Ops> card, size_t element) : ForwardingOps(std::move(card)), element_(element) {}

  void sums_of_squares(const TensorEnd* tensors, size_t tensor_count, const float* x, float* sums) override {
    const float nan = NAN;
    write(const_cast<float*>(x) + element_, &nan, sizeof nan);
    ForwardingOps::sums_of_squares(tensors, tensor_count, x, sums);
  }
};

TEST_F(Card, AGradientThatIsNotFiniteNamesTheTensorWhereAStepClips) {
  const Parameter parameter = parameters_of(gpt2).at(4);
  for (const size_t element : {parameter.offset, parameter.offset + parameter.count - 1}) {
    FailingGradient card(open_card(), element);
    Computation failing(gpt2, card);
    EXPECT_EQ(error_of([&] { failing.local_steps(); }),
              "numeric failure: " + parameter.name + " is not finite at step 0");
  }
}

TEST_F(Card, AComputationCanBeCancelled) {
  const std::unique_ptr<Ops> card = open_card();
  Computation computation(gpt2, *card);
  int asked = 0;
  const Values whole = computation.gradient([&] { return ++asked < 0; });
  ASSERT_GT(asked, 10);
  int left = asked / 2;
  EXPECT_THROW(computation.gradient([&] { return --left == 0; }), Cancelled);
  expect_same_bits(computation.gradient(), whole, "after it");
}

TEST_F(Card, PlannedBytesAreWhatIsTaken) {
  constexpr size_t on_a_card = 6'371'475'456;
  size_t planned, own;
  {
    const std::unique_ptr<Ops> card = open_card(on_a_card);
    own = card->own_bytes();
    EXPECT_EQ(card->free_bytes(), on_a_card - own);
    EXPECT_EQ(own, 33'554'432u) << "docs/memory.md";
    const size_t before = card->free_bytes();
    Computation computation(gpt2, *card);
    planned = Trainer::planned_bytes(gpt2, 2, 5, *card, Purpose::local_steps);
    const Trainer trainer = computation.make(Purpose::local_steps);
    EXPECT_EQ(before - card->free_bytes(), planned - own);
    EXPECT_GT(planned, 6 * computation.weights.size() * sizeof(float)) << "weights and results are in it";
  }
  const std::unique_ptr<Ops> card = open_card(planned - 1);
  Computation computation(gpt2, *card);
  EXPECT_THROW(computation.local_steps(), CudaOutOfMemory);
  EXPECT_EQ(error_of([&] { computation.local_steps(); }),
            std::string(bus_id) + ": " + std::to_string(planned - own) +
                " bytes: cuMemAlloc_v2: out of memory (CUDA_ERROR_OUT_OF_MEMORY, 2)");
  EXPECT_FALSE(computation.gradient().empty()) << "what fits is computed";
}

TEST_F(Card, ACallThatFailsNamesCardAndReason) {
  for (const char* call : {"cuLaunchKernel", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemcpyDtoDAsync_v2",
                           "cuMemsetD8Async", "cuEventQuery"}) {
    const std::unique_ptr<Ops> card = open_card(34'000'000, std::string(call) + ",0,719,1");
    Computation computation(gpt2, *card);
    const auto twice = [&] { computation.local_steps(), computation.local_steps(); };
    EXPECT_THROW(twice(), CudaError) << call;
    const std::string error = error_of(twice);
    EXPECT_EQ(error.rfind(bus_id, 0), 0u) << error;
    EXPECT_NE(error.find(std::string(call) + ": unspecified launch failure (CUDA_ERROR_LAUNCH_FAILED, 719)"),
              std::string::npos)
        << error;
  }
}

// Else the other tests would not see a copy that is missing.
TEST_F(Card, ItsMemoryFaultsWhereTheHostTouchesIt) {
  const std::unique_ptr<Ops> card = open_card();
  float* memory = static_cast<float*>(card->allocate(sizeof(float)));
  EXPECT_DEATH(*static_cast<volatile float*>(memory) = 1, "");
  card->free(memory);
}

class CardGolden : public testing::TestWithParam<GoldenUnit> {};

TEST_P(CardGolden, GivesTheCommittedDigest) {
  const std::unique_ptr<Ops> card = open_card();
  EXPECT_EQ(golden_digest(GetParam(), *card), GetParam().sha256);
}

// Of both families and all profiles, gradients and local steps, what the executor does in a second or two.
std::vector<GoldenUnit> short_units() {
  std::vector<GoldenUnit> units = read_golden(GOLDEN_FILE);
  std::erase_if(units, [](const GoldenUnit& unit) {
    constexpr const char* names[] = {"gradient_two_lanes", "llama_tied_two_lanes", "llama_three_steps",
                                     "int8_odd_shape",     "int8_llama",           "int8_head_odd_shape",
                                     "int8_head_llama"};
    return std::find(std::begin(names), std::end(names), unit.name) == std::end(names);
  });
  return units;
}

INSTANTIATE_TEST_SUITE_P(Units, CardGolden, testing::ValuesIn(short_units()),
                         [](const auto& unit) { return unit.param.name; });

}  // namespace
}  // namespace kernels::test
