// Blocks whose launches a card has recorded, on the driver of the tests (tests/fakes/fake_cuda.h).
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "fake_cuda.h"
#include "fake_library.h"
#include "kernels/cuda_cards.h"
#include "kernels/training.h"
#include "model_test_util.h"

namespace kernels::test {
namespace {

using Purpose = Trainer::Purpose;
using Values = std::vector<float>;

constexpr char bus_id[] = "0000:0A:00.0";
// A context of 8 makes blocks of 128 sequences. Of the many rows the last block has fewer; the few are one block.
constexpr size_t context = 8, many_rows = 258, few_rows = 3;
const ModelConfig small{1, 1, 4, context, 7, 4, 1e-5f};

fakes::FakeCuda& fake() {
  static auto& seen = fakes::seen_by<fakes::FakeCudaFunction>(FAKE_CUDA, "fake_cuda");
  return seen;
}

struct Told {
  std::string fail = {}, hang = {};
};

std::unique_ptr<Ops> open_card(const Told& told = {}, std::chrono::seconds timeout = cuda_timeout) {
  fake();
  setenv("FAKE_CUDA_CARDS", (std::string(bus_id) + ",8.6,6371475456,Card").c_str(), 1);
  setenv("FAKE_CUDA_FAIL", told.fail.c_str(), 1);
  setenv("FAKE_CUDA_HANG", told.hang.c_str(), 1);
  return make_cuda_ops(cuda_cards().cards.at(0), timeout);
}

// A trainer of so many rows and what it computes of them.
class Computation {
 public:
  Computation(Ops& ops, Trainer::Settings settings, size_t rows)
      : trainer_(small, rows, context, ops, settings), tokens_(some_tokens(small, rows, context, 2)), rows_(rows) {}

  Values gradient(const Cancel& cancel = {}) { return gradient(rows_, cancel); }
  // Of the first `count` rows.
  Values gradient(size_t count, const Cancel& cancel = {}) {
    Values result(weights.size());
    const float loss = trainer_.gradient(weights, first(count), result, {}, cancel);
    result.push_back(loss);
    return result;
  }
  Values block_gradients() {
    Values results, result(weights.size());
    const auto on_block = [&](size_t, std::span<const float> block) {
      results.insert(results.end(), block.begin(), block.end());
    };
    results.push_back(trainer_.gradient(weights, first(rows_), result, on_block));
    results.insert(results.end(), result.begin(), result.end());
    return results;
  }
  Values local_steps() {
    Values result(weights.size());
    const auto next = [&](size_t) { return first(rows_); };
    const Values losses = trainer_.local_steps(weights, some_adamw(2, 0.05f), next, result);
    result.insert(result.end(), losses.begin(), losses.end());
    return result;
  }

  Values weights = some_weights(small, 1);

 private:
  TokenBatch first(size_t count) { return {count, context, std::span(tokens_).first(count * (context + 1))}; }

  Trainer trainer_;
  const std::vector<uint16_t> tokens_;
  const size_t rows_;
};

void expect_same_bits(const Values& got, const Values& expected, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)), 0) << what;
}

Values gradient_of_the_reference(size_t rows) {
  const std::unique_ptr<Ops> reference = make_reference_ops();
  return Computation(*reference, Purpose::gradient, rows).gradient();
}

class Repeated : public testing::Test {
 protected:
  void SetUp() override { fake().replays = 0; }
  void TearDown() override {
    EXPECT_EQ(fake().graphs, 0);
    EXPECT_EQ(fake().allocations, 0);
  }
};

TEST_F(Repeated, BlocksAfterTheFirstAreOneCallOfTheDriverEach) {
  const std::unique_ptr<Ops> card = open_card(), reference = make_reference_ops();
  Computation on_card(*card, Purpose::gradient, many_rows), expected(*reference, Purpose::gradient, many_rows);
  expect_same_bits(on_card.gradient(), expected.gradient(), "gradient");
  EXPECT_EQ(fake().replays, 1) << "the second full block";
  EXPECT_EQ(fake().graphs, 1);
  on_card.weights[3] += 1, expected.weights[3] += 1;
  expect_same_bits(on_card.gradient(), expected.gradient(), "of other weights");
  EXPECT_EQ(fake().replays, 3);
}

TEST_F(Repeated, MicroBatchesOfSeveralBlocks) {
  constexpr size_t rows = 4 * 128 + 5;  // 2, 2 and a part of a block
  Trainer::Settings settings = Purpose::gradient;
  settings.micro_batch = 2;
  const std::unique_ptr<Ops> card = open_card();
  Computation on_card(*card, settings, rows);
  const Values expected = gradient_of_the_reference(rows);
  for (int turn = 0; turn < 2; ++turn) expect_same_bits(on_card.gradient(), expected, "gradient");
  EXPECT_EQ(fake().replays, 3);
}

TEST_F(Repeated, InEveryComputation) {
  const std::unique_ptr<Ops> card = open_card(), reference = make_reference_ops();
  Computation blocks(*card, Purpose::block_gradients, few_rows);
  Computation expected_blocks(*reference, Purpose::block_gradients, few_rows);
  const Values block_gradients = expected_blocks.block_gradients();
  for (int turn = 0; turn < 3; ++turn) expect_same_bits(blocks.block_gradients(), block_gradients, "block gradients");
  EXPECT_EQ(fake().replays, 2);
  Computation steps(*card, Purpose::local_steps, few_rows);
  Computation expected_steps(*reference, Purpose::local_steps, few_rows);
  expect_same_bits(steps.local_steps(), expected_steps.local_steps(), "local steps");
  EXPECT_EQ(fake().replays, 3);
}

// The losses' factor is another one then.
TEST_F(Repeated, ABatchOfAnotherSizeIsRecordedAnew) {
  const std::unique_ptr<Ops> card = open_card();
  Computation on_card(*card, Purpose::gradient, many_rows);
  on_card.gradient();
  const int replays = fake().replays;
  expect_same_bits(on_card.gradient(128), gradient_of_the_reference(128), "128 rows");
  EXPECT_EQ(fake().replays, replays);
  expect_same_bits(on_card.gradient(128), gradient_of_the_reference(128), "128 rows again");
  EXPECT_EQ(fake().replays, replays + 1);
}

TEST_F(Repeated, WhereItCannotBeRecordedItIsQueuedAsEver) {
  const Values expected = gradient_of_the_reference(few_rows);
  for (const char* call : {"cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiate_v2"}) {
    const std::unique_ptr<Ops> card = open_card({.fail = std::string(call) + ",0,2"});
    Computation on_card(*card, Purpose::gradient, few_rows);
    for (int turn = 0; turn < 3; ++turn) expect_same_bits(on_card.gradient(), expected, call);
    EXPECT_EQ(fake().replays, 0) << call;
  }
}

TEST_F(Repeated, AFailedReplayNamesCardAndCall) {
  const std::unique_ptr<Ops> card = open_card({.fail = "cuGraphLaunch,0,719,1"});
  Computation on_card(*card, Purpose::gradient, few_rows);
  on_card.gradient(), on_card.gradient();
  EXPECT_EQ(fakes::error_of<CudaError>([&] { on_card.gradient(); }),
            std::string(bus_id) + ": cuGraphLaunch: unspecified launch failure (CUDA_ERROR_LAUNCH_FAILED, 719)");
}

TEST_F(Repeated, ItCanBeCancelledWhileItIsRecorded) {
  const Values expected = gradient_of_the_reference(few_rows);
  const std::unique_ptr<Ops> card = open_card();
  int asked = 0;
  Computation(*card, Purpose::gradient, few_rows).gradient([&] { return ++asked < 0; });
  ASSERT_GT(asked, 5);
  for (int after = 1; after <= asked; ++after) {
    Computation on_card(*card, Purpose::gradient, few_rows);
    on_card.gradient();
    int left = after;
    EXPECT_THROW(on_card.gradient([&] { return --left == 0; }), Cancelled) << after;
    for (int turn = 0; turn < 2; ++turn) expect_same_bits(on_card.gradient(), expected, std::to_string(after));
  }
}

TEST_F(Repeated, ItCanBeCancelledBeforeAReplay) {
  const std::unique_ptr<Ops> card = open_card();
  Computation on_card(*card, Purpose::gradient, few_rows);
  on_card.gradient(), on_card.gradient();
  EXPECT_THROW(on_card.gradient([] { return true; }), Cancelled);
  expect_same_bits(on_card.gradient(), gradient_of_the_reference(few_rows), "after it");
  EXPECT_EQ(fake().replays, 2);
}

TEST(RepeatedOnACardThatHangs, IsNoticed) {
  const std::unique_ptr<Ops> card = open_card({.hang = "cuGraphLaunch,0,1"}, std::chrono::seconds(1));
  Computation on_card(*card, Purpose::gradient, few_rows);
  on_card.gradient(), on_card.gradient();
  const std::string error = fakes::error_of<CudaError>([&] { on_card.gradient(); });
  EXPECT_EQ(error, std::string(bus_id) + ": the card hangs: it has finished nothing for 1 s; restart the machine");
}

}  // namespace
}  // namespace kernels::test
