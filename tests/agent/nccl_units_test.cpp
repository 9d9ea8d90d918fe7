// A unit's lanes over cards that pass them to each other by NCCL: the whole way but for the driver, which runs the
// kernels on the CPU (tests/fakes/fake_cuda.h), and for NCCL (tests/fakes/fake_nccl.h), which ends the program where a
// real one would wait for ever.
#include <dlfcn.h>

#include <thread>

#include "cards_fixture.h"
#include "fake_cuda.h"
#include "fake_nccl.h"

namespace agent {
namespace {

// What the libraries of the tests saw; from now on they are also where the real ones are asked for.
fakes::FakeCuda& fake_cuda() {
  static void* const library = dlopen(FAKE_CUDA, RTLD_NOW);
  return reinterpret_cast<fakes::FakeCudaFunction>(dlsym(library, "fake_cuda"))();
}
fakes::FakeNccl& fake_nccl() {
  static void* const library = dlopen(FAKE_NCCL, RTLD_NOW);
  return reinterpret_cast<fakes::FakeNcclFunction>(dlsym(library, "fake_nccl"))();
}

class NcclUnits : public CardsTest {
 protected:
  NcclUnits() : CardsTest(16) {}

  void SetUp() override {
    fake_cuda();
    fake_nccl() = {};
    told("", "");
  }

  static void told(const char* fail, const char* hang) {
    setenv("FAKE_NCCL_FAIL", fail, 1);
    setenv("FAKE_NCCL_HANG", hang, 1);
  }

  void use_cards(UnitRunner& with, size_t count, std::chrono::milliseconds timeout = kernels::cuda_timeout,
                 size_t bytes = 6'000'000'000) {
    std::string list;
    for (size_t i = 0; i < count; ++i) {
      list += "0000:0" + std::string(1, static_cast<char>('A' + i)) + ":00.0,8.6," + std::to_string(bytes) + ",Card;";
    }
    setenv("FAKE_CUDA_CARDS", list.c_str(), 1);
    UnitRunner::Cards cards;
    for (const kernels::CudaCard& card : kernels::cuda_cards().cards) {
      cards.push_back(std::make_shared<LaneWorker>(card.bus_id, [=] { return kernels::make_cuda_ops(card, timeout); }));
    }
    with.use_cards(std::move(cards), on_failed, [this](const std::string& what) { troubles.push_back(what); });
  }
  protocol::Unit short_unit(uint64_t lanes) const {
    protocol::Unit unit = unit_of(lanes);
    unit.steps = 1;
    unit.inner->steps.resize(1);
    unit.batch = 1;
    unit.context = 4;
    unit.tokens = lanes * unit.batch * unit.context;
    return unit;
  }

  // What must be free on a card for the fastest plan of the unit.
  size_t bytes_for(const protocol::Unit& unit) const {
    setenv("FAKE_CUDA_CARDS", "0000:0A:00.0,8.6,6000000000,Card", 1);
    const auto card = kernels::make_cuda_ops(kernels::cuda_cards().cards.at(0));
    return kernels::Trainer::planned_bytes(job.config, unit.batch, unit.context, *card, settings_of(unit)) + (64 << 20);
  }

  std::vector<std::string> troubles;
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
