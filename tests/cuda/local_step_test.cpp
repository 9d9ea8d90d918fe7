// What a local step asks of a card: how many launches, and how often the host waits for what it has queued.
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "cuda_host/cuda_ops.h"
#include "kernels/training.h"
#include "launcher.h"
#include "model_test_util.h"

namespace kernels::test {
namespace {

using Counts = std::map<std::string, size_t>;  // launches of each kernel, "reads" and "writes"
using Values = std::vector<float>;

class CountingLauncher : public simt::SimtLauncher {
 public:
  Counts counts;

  void launch(const cuda::Launch& launch) override {
    ++counts[launch.kernel];
    SimtLauncher::launch(launch);
  }
  void read(void* host, const void* device, size_t bytes) override {
    ++counts["reads"];
    SimtLauncher::read(host, device, bytes);
  }
  void write(void* device, const void* host, size_t bytes) override {
    ++counts["writes"];
    SimtLauncher::write(device, host, bytes);
  }
};

// As many tensors as GPT-2 124M has, and more than a launch takes.
const ModelConfig twelve_layers{12, 2, 4, 6, 11, 6, 1e-5f}, thirty_layers{30, 1, 2, 6, 11, 3, 1e-5f};

// The difference after the steps, then their losses.
Values local_steps(const ModelConfig& config, Ops& ops, size_t steps, float max_grad_norm) {
  const Values weights = some_weights(config, 1);
  const std::vector<uint16_t> tokens = some_tokens(config, 2, 5, 2);
  Trainer trainer(config, 2, 5, ops, Trainer::Purpose::local_steps);
  Values result(weights.size());
  const auto next = [&](size_t) { return TokenBatch{2, 5, tokens}; };
  const Values losses = trainer.local_steps(weights, some_adamw(steps, max_grad_norm), next, result);
  result.insert(result.end(), losses.begin(), losses.end());
  return result;
}

// What one more step adds.
Counts of_a_step(const ModelConfig& config, float max_grad_norm) {
  const auto counts_of = [&](size_t steps) {
    CountingLauncher card;
    cuda::CudaOps ops(card, cuda::Int8Arithmetic::m16n8k32, HalfPrecision::none);
    local_steps(config, ops, steps, max_grad_norm);
    return card.counts;
  };
  Counts counts = counts_of(2);
  for (const auto& [what, count] : counts_of(1)) counts[what] -= count;
  return counts;
}

TEST(LocalStep, WaitsForTheLossAndTheNorm) {
  EXPECT_EQ(of_a_step(twelve_layers, 0)["reads"], 1u);
  EXPECT_EQ(of_a_step(twelve_layers, 0.05f)["reads"], 2u);
  EXPECT_EQ(of_a_step(thirty_layers, 0.05f)["reads"], 2u);
}

// Of two neighbouring ones the second waits for the first.
TEST(LocalStep, WritesABlocksTokensAtOnce) { EXPECT_EQ(of_a_step(twelve_layers, 0.05f)["writes"], 1u); }

TEST(LocalStep, TakesManyTensorsToALaunch) {
  Counts counts = of_a_step(twelve_layers, 0.05f);
  EXPECT_EQ(counts["adamw"], 1u);
  EXPECT_EQ(counts["scale"], 1u) << "it clips";
  EXPECT_EQ(counts["segment_sums_of_squares"], 1u);
  EXPECT_EQ(counts["add_segments"], 3u) << "of the loss, of each tensor, of all tensors";
  counts = of_a_step(thirty_layers, 0.05f);
  EXPECT_EQ(counts["adamw"], 2u);
  EXPECT_EQ(counts["segment_sums_of_squares"], 2u);
}

TEST(LocalStep, GivesTheReferencesBits) {
  const std::unique_ptr<Ops> reference = make_reference_ops();
  for (const ModelConfig& config : {twelve_layers, thirty_layers}) {
    CountingLauncher card;
    cuda::CudaOps ops(card, cuda::Int8Arithmetic::m16n8k32, HalfPrecision::none);
    const Values got = local_steps(config, ops, 3, 0.05f), expected = local_steps(config, *reference, 3, 0.05f);
    EXPECT_EQ(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)), 0) << config.layers << " layers";
  }
}

}  // namespace
}  // namespace kernels::test
