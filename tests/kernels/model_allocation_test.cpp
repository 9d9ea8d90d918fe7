// A step allocates nothing: every operator new of this executable is counted.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "kernels/training.h"
#include "model_test_util.h"

namespace {
std::atomic<size_t> allocations{0}, aligned_bytes{0};  // aligned: beyond what plain new gives

void* counted(size_t bytes, size_t alignment) {
  ++allocations;
  if (alignment > alignof(std::max_align_t)) aligned_bytes += bytes;
  void* p = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (!p) throw std::bad_alloc();
  return p;
}
}  // namespace

void* operator new(size_t bytes) { return counted(bytes, alignof(std::max_align_t)); }
void* operator new(size_t bytes, std::align_val_t alignment) { return counted(bytes, static_cast<size_t>(alignment)); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }

namespace kernels {
namespace {

using Purpose = Trainer::Purpose;

const ModelConfig models[] = {{2, 2, 16, 40, 30, 64, 1e-5f}, test::llama({2, 4, 2, 16, 40, 30, 64})};

void for_every_model_and_profile(void (*expectation)(const ModelConfig&, Profile)) {
  for (const ModelConfig& config : models)
    for (const Profile profile : profiles()) expectation(config, profile);
}

void expect_none_in_the_second_gradient(const ModelConfig& config, Profile profile) {
  const std::unique_ptr<Ops> ops = make_cpu_ops(3);
  Trainer trainer(config, 40, 33, *ops, {Purpose::block_gradients, false, profile});  // two blocks
  const std::vector<float> weights = test::some_weights(config, 1);
  const std::vector<uint16_t> tokens = test::some_tokens(config, 40, 33, 2);
  std::vector<float> gradient(weights.size());
  size_t blocks = 0;
  const Trainer::OnBlock on_block = [&](size_t, std::span<const float>) { ++blocks; };
  trainer.gradient(weights, {40, 33, tokens}, gradient, on_block);
  const size_t before = allocations;
  trainer.gradient(weights, {40, 33, tokens}, gradient, on_block);
  EXPECT_EQ(allocations, before);
  EXPECT_EQ(blocks, 4u);
}

TEST(Allocation, NoneInTheSecondGradient) { for_every_model_and_profile(expect_none_in_the_second_gradient); }

void expect_none_from_the_second_local_step(const ModelConfig& config, Profile profile) {
  const std::unique_ptr<Ops> ops = make_cpu_ops(3);
  Trainer trainer(config, 5, 33, *ops, {Purpose::local_steps, false, profile});
  const std::vector<float> weights = test::some_weights(config, 1);
  const std::vector<uint16_t> tokens = test::some_tokens(config, 5, 33, 2);
  std::vector<float> difference(weights.size());
  size_t at_step[4] = {};
  trainer.local_steps(
      weights, test::some_adamw(4, 1),
      [&](size_t step) {
        at_step[step] = allocations;
        return TokenBatch{5, 33, tokens};
      },
      difference);
  EXPECT_EQ(at_step[1], at_step[3]);
}

TEST(Allocation, NoneFromTheSecondLocalStep) { for_every_model_and_profile(expect_none_from_the_second_local_step); }

// What a trainer takes for tensors is what it said.
void expect_planned_bytes_are_exact(const ModelConfig& config, Profile profile) {
  const std::unique_ptr<Ops> ops = make_cpu_ops(2);
  for (Purpose purpose : {Purpose::gradient, Purpose::block_gradients, Purpose::local_steps, Purpose::evaluate}) {
    for (bool recompute : {false, true}) {
      Trainer::Settings settings(purpose, recompute, profile);
      settings.micro_batch = recompute && purpose != Purpose::block_gradients ? 2 : 1;
      const size_t planned = Trainer::planned_bytes(config, 40, 33, *ops, settings), before = aligned_bytes;
      const Trainer trainer(config, 40, 33, *ops, settings);
      EXPECT_EQ(aligned_bytes - before, planned - ops->own_bytes());
    }
  }
}

TEST(Allocation, PlannedBytesAreExact) { for_every_model_and_profile(expect_planned_bytes_are_exact); }

}  // namespace
}  // namespace kernels
