// A unit's lanes over cards that pass them to each other by NCCL: the whole way but for the driver, which runs the
// kernels on the CPU (tests/fakes/fake_cuda.h), and for NCCL (tests/fakes/fake_nccl.h), which ends the program where a
// real one would wait for ever.
#include <map>

#include "driver_cards_fixture.h"

namespace agent {
namespace {

class NcclUnits : public DriverCardsTest {
 protected:
  static void told(const char* fail, const char* hang) {
    setenv("FAKE_NCCL_FAIL", fail, 1);
    setenv("FAKE_NCCL_HANG", hang, 1);
  }

  // What must be free on a card for the fastest plan of the unit.
  size_t bytes_for(const protocol::Unit& unit) const {
    setenv("FAKE_CUDA_CARDS", "0000:0A:00.0,8.6,6000000000,Card", 1);
    const auto card = kernels::make_cuda_ops(kernels::cuda_cards().cards.at(0));
    return kernels::Trainer::planned_bytes(job.config, unit.batch, unit.context, *card, settings_of(unit)) + (64 << 20);
  }
};

TEST_F(NcclUnits, AnyNumberOfCardsGivesTheResultOfTheCpu) {
  const protocol::Unit steps = short_unit(12);
  protocol::Unit gradient = steps;
  gradient.inner.reset();
  for (const size_t cards : {2, 3, 6, 12}) {
    fake_nccl() = {};
    {
      UnitRunner fresh([] { return kernels::make_cpu_ops(1); });
      use_cards(fresh, cards);
      for (const protocol::Unit& unit : {steps, gradient}) expect_the_cpus(run(fresh, unit), unit);
      EXPECT_EQ(fake_nccl().ordinals.size(), cards);
      EXPECT_EQ(fake_nccl().cliques, 1);
      EXPECT_GE(fake_nccl().groups, 3u) << "one joins the cards, one for each unit";
    }
    EXPECT_EQ(fake_nccl().destroyed, 1);
    EXPECT_EQ(fake_cuda().contexts, 0) << "the cards are free";
  }
  EXPECT_TRUE(failures.empty());
  EXPECT_TRUE(troubles.empty());
}

// However few lanes there are for them; NCCL's links are made where a unit has two.
TEST_F(NcclUnits, AnyNumberOfLanesGivesTheResultOfTheCpu) {
  for (const kernels::Family family : {kernels::Family::gpt2, kernels::Family::llama}) {
    if (family == kernels::Family::llama) use_llama();
    std::map<std::pair<uint64_t, std::string>, UnitResult> of_the_cpu;
    for (const size_t cards : {1, 2, 3, 5}) {
      UnitRunner fresh([] { return kernels::make_cpu_ops(1); });
      use_cards(fresh, cards);
      for (uint64_t lanes = 1; lanes <= 12; ++lanes) {
        protocol::Unit unit = short_unit(lanes);
        unit.codec = protocol::codec_names().at((lanes + cards) % 3);
        UnitResult& expected = of_the_cpu[{lanes, unit.codec}];
        if (expected.blob.empty()) expected = on_cpu(unit);
        const UnitResult result = run(fresh, unit);
        EXPECT_EQ(result.digest, expected.digest) << lanes << " lanes on " << cards << " cards, " << unit.codec;
        EXPECT_EQ(result.segments_root, expected.segments_root);
      }
    }
  }
  EXPECT_TRUE(failures.empty());
  EXPECT_TRUE(troubles.empty());
}

// Two lanes of two blocks, all of which are segments.
TEST_F(NcclUnits, OfSegmentsOnlyHashesCrossToTheHost) {
  const protocol::Unit unit = gradients_of(2, 150);
  const size_t whole = kernels::parameter_count(job.config) * sizeof(float);
  for (const char* fail : {"", "ncclCommInitAll,0"}) {
    told(fail, "");
    UnitRunner fresh([] { return kernels::make_cpu_ops(1); });
    use_cards(fresh, 2);
    const size_t before = fake_cuda().bytes_out;
    expect_the_cpus(run(fresh, unit), unit);
    EXPECT_LT(fake_cuda().bytes_out - before, 3 * whole) << fail;
  }
}

// All else that crosses is the same.
TEST_F(NcclUnits, OfTheOnlyLaneTheEncodingCrosses) {
  UnitRunner fresh([] { return kernels::make_cpu_ops(1); });
  use_cards(fresh, 1);
  std::map<std::string, size_t> others;
  for (const std::string& codec : protocol::codec_names()) {
    protocol::Unit unit = short_unit(1);
    unit.codec = codec;
    const size_t before = fake_cuda().bytes_out;
    expect_the_cpus(run(fresh, unit), unit);
    const size_t count = kernels::parameter_count(job.config);
    others[codec] = fake_cuda().bytes_out - before - protocol::payload_bytes(protocol::codec_from_name(codec), count);
  }
  EXPECT_EQ(others["int4"], others["fp32"]);
  EXPECT_EQ(others["int8"], others["fp32"]);
  EXPECT_LT(others["fp32"], 200u) << "hashes, losses, what is asked of values";
}

TEST_F(NcclUnits, ASumThatIsNotFiniteIsNamedAsTheCpuNamesIt) {
  const protocol::Unit unit = overflowing_unit(2);
  const std::string expected = failure_of(runner, unit);
  EXPECT_NE(expected, "");
  for (const size_t cards : {1, 2}) {
    UnitRunner fresh([] { return kernels::make_cpu_ops(1); });
    use_cards(fresh, cards);
    EXPECT_EQ(failure_of(fresh, unit), expected) << cards << " cards";
  }
  EXPECT_TRUE(failures.empty());
  EXPECT_TRUE(troubles.empty());
}

// A card has what the unit needs at its fastest, and a little more or less than what NCCL takes.
TEST_F(NcclUnits, ItsMemoryIsSeenAndGivenBack) {
  use_layers(3);
  const protocol::Unit unit = short_unit(2);
  const size_t needed = bytes_for(unit);
  setenv("FAKE_NCCL_BYTES", "1000000", 1);
  for (const bool fits : {true, false}) {
    fake_nccl() = {};
    UnitRunner fresh([] { return kernels::make_cpu_ops(1); });
    use_cards(fresh, 2, kernels::cuda_timeout, needed + (fits ? 1'001'000 : 999'000));
    expect_the_cpus(run(fresh, unit), unit);
    EXPECT_EQ(fake_nccl().cliques, 1);
    EXPECT_EQ(fake_nccl().destroyed, fits ? 0 : 1);
    EXPECT_EQ(troubles.size(), fits ? 0u : 1u);
  }
  unsetenv("FAKE_NCCL_BYTES");
  EXPECT_EQ(troubles.at(0).rfind("tiny.0.t0: 0000:0A:00.0, 0000:0B:00.0: NCCL's memory is needed: 0000:0A:00.0: ", 0),
            0u)
      << troubles.at(0);
  EXPECT_TRUE(failures.empty());
}

TEST_F(NcclUnits, WhateverFailsTheUnitIsCompleted) {
  const protocol::Unit unit = short_unit(4);
  const std::pair<const char*, const char*> cases[] = {
      {"ncclCommInitAll,0", "0000:0A:00.0, 0000:0B:00.0: ncclCommInitAll: unhandled system error (2)"},
      {"ncclSend,2", ":00.0: ncclSend: unhandled system error (2)"},
      {"ncclGroupEnd,1", "0000:0A:00.0, 0000:0B:00.0: ncclGroupEnd: unhandled system error (2)"}};
  for (const auto& [fail, expected] : cases) {
    UnitRunner fresh([] { return kernels::make_cpu_ops(1); });
    use_cards(fresh, 2);
    troubles.clear();
    told(fail, "");
    for (int again = 0; again < 2; ++again) expect_the_cpus(run(fresh, unit), unit);
    ASSERT_EQ(troubles.size(), 1u);
    EXPECT_EQ(troubles[0].rfind("tiny.0.t0: 0000:0", 0), 0u) << troubles[0];
    EXPECT_TRUE(troubles[0].ends_with(expected)) << troubles[0];
    EXPECT_EQ(fresh.cards().size(), 2u);
  }
}

TEST_F(NcclUnits, WhateverHangsTheUnitIsCompleted) {
  const protocol::Unit unit = short_unit(4);
  const std::pair<const char*, const char*> cases[] = {
      {"ncclCommInitAll,0", "ncclCommInitAll has not returned for 2 s"},
      {"ncclGroupEnd,1", "ncclGroupEnd has not returned for 2 s"},
      {"transfer,1", "ncclSend and ncclRecv have not ended for 2 s"}};
  for (const auto& [hang, expected] : cases) {
    UnitRunner fresh([] { return kernels::make_cpu_ops(1); });
    use_cards(fresh, 2, std::chrono::seconds(2));
    troubles.clear();
    told("", hang);
    for (int again = 0; again < 2; ++again) expect_the_cpus(run(fresh, unit), unit);
    EXPECT_EQ(troubles, std::vector<std::string>{"tiny.0.t0: 0000:0A:00.0, 0000:0B:00.0: " + std::string(expected)});
    EXPECT_EQ(fresh.cards().size(), 2u) << "the cards are well";
  }
  EXPECT_TRUE(failures.empty());
}

}  // namespace
}  // namespace agent
