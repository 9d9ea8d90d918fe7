// Cards whose memory does not suffice, before a unit or in the midst of it.
#include "driver_cards_fixture.h"
#include "unit_refused.h"

namespace agent {
namespace {

class ShortCards : public DriverCardsTest {
 protected:
  // One card, on which one call fails for lack of memory once so many went well. Whether it came to that.
  bool expect_to_go_on(const std::string& call, int after, const protocol::Unit& unit) {
    shortages.clear();
    setenv("FAKE_CUDA_FAIL", (call + ",0,2," + std::to_string(after) + ",1").c_str(), 1);
    UnitRunner fresh([] { return kernels::make_cpu_ops(1); });
    use_cards(fresh, 1);
    bool refused = false;
    try {
      expect_the_cpus(run(fresh, unit), unit);
    } catch (const UnitRefused& error) {
      refused = true;
      EXPECT_EQ(std::string(error.what()).rfind("has no card: 0000:0A:00.0: ", 0), 0u) << error.what();
      EXPECT_NE(std::string(error.what()).find(call + ": out of memory (CUDA_ERROR_OUT_OF_MEMORY, 2)"),
                std::string::npos)
          << error.what();
    }
    EXPECT_EQ(fresh.cards().size(), 1u) << call << " " << after;
    if (refused) expect_the_cpus(run(fresh, unit), unit);
    return refused || !shortages.empty();
  }
};

TEST_F(ShortCards, WhateverFailsForLackOfMemoryTheCardGoesOn) {
  use_layers(3);
  const protocol::Unit steps = short_unit(2);
  int in_lanes = 0;
  for (int after = 0; after < 20; ++after) {
    expect_to_go_on("cuMemAlloc_v2", after, steps);
    in_lanes += static_cast<int>(shortages.size());
  }
  EXPECT_GE(in_lanes, 2) << "sums and hashes have memory of their own";
  EXPECT_TRUE(expect_to_go_on("cuLaunchKernel", 30, steps)) << "kernels are loaded when they are first used";
  EXPECT_TRUE(failures.empty());
}

// Of GPT-2 124M at its longest context: planned, and not computed.
TEST_F(ShortCards, AUnitOfGpt2IsPlannedForSixGigabytesAndRefusedForOne) {
  const kernels::ModelConfig gpt2{
      .layers = 12, .heads = 12, .channels = 768, .positions = 1024, .vocabulary = 50257, .inner = 3072};
  protocol::Unit steps = short_unit(1);
  steps.model = kernels::to_json(gpt2);
  steps.context = 1024;
  steps.tokens = 1024;
  protocol::Unit gradient = steps;
  gradient.inner.reset();
  for (const protocol::Unit& unit : {steps, gradient}) {
    use_cards(runner, 1, kernels::cuda_timeout, 6'000'000'000);
    LaneWorker& card = *runner.cards().front();
    EXPECT_NO_THROW(card.plan_buffers(unit, gpt2, settings_of(unit)));
    EXPECT_GT(card.planned_bytes(), 4 * kernels::parameter_count(gpt2) * sizeof(float));
    runner.use_cards({});

    use_cards(runner, 1, kernels::cuda_timeout, 1'000'000'000);
    try {
      runner.run(unit, gpt2, runner.plan(unit, gpt2, UINT64_MAX), {}, {}, [](uint64_t) {}, {});
      FAIL() << "it is refused before weights or tokens are asked for";
    } catch (const UnitRefused& refused) {
      const std::string what = refused.what();
      EXPECT_EQ(what.rfind("has no card: 0000:0A:00.0: the unit needs ", 0), 0u) << what;
      EXPECT_TRUE(what.ends_with(" GB of its memory, 933 MB are free")) << what;
    }
    EXPECT_EQ(runner.cards().size(), 1u) << "a smaller unit may come";
    runner.use_cards({});
  }
}

}  // namespace
}  // namespace agent
