// A unit's lanes over several cards, some of which fail.
#include <future>
#include <thread>
#include <utility>

#include "cards_fixture.h"
#include "unit_refused.h"

namespace agent {
namespace {

TEST_F(CardsTest, AnyNumberOfCardsGivesTheResultOfTheCpu) {
  const protocol::Unit gradients = gradients_of(5);
  protocol::Unit evaluation = gradients;
  evaluation.kind = protocol::UnitKind::evaluate;
  evaluation.lanes = 1;
  for (const size_t count : {1, 2, 3, 6}) {
    UnitRunner::Cards cards;
    for (size_t i = 0; i < count; ++i) cards.push_back(cpu_as_card("card " + std::to_string(i)));
    runner.use_cards(cards, on_failed);
    for (const protocol::Unit& unit : {unit_of(7), unit_of(1), gradients, evaluation}) {
      expect_the_cpus(run(runner, unit), unit);
    }
    EXPECT_EQ(runner.cards().size(), count);
  }
  EXPECT_TRUE(failures.empty());
}

// The good card waits with its first lane until the bad one has failed with the other.
TEST_F(CardsTest, ACardThatFailsIsLeftOutAndItsLanesAreComputed) {
  std::promise<void> failed;
  const std::shared_future<void> has_failed = failed.get_future().share();
  const auto good = cpu_as_card("good", [=] { has_failed.wait(); });
  const auto bad = cpu_as_card("bad", [n = 0]() mutable {
    if (++n == 20) fail_as_card("bad");
  });
  runner.use_cards({bad, good}, [&](const std::string& card, const std::string& what) {
    on_failed(card, what);
    failed.set_value();
  });
  const protocol::Unit unit = unit_of(4);
  expect_the_cpus(run(runner, unit), unit);
  EXPECT_EQ(failures,
            std::vector<std::string>{
                "bad tiny.0.t0: bad: cuLaunchKernel: unspecified launch failure (CUDA_ERROR_LAUNCH_FAILED, 719)"});
  EXPECT_EQ(runner.cards(), UnitRunner::Cards{good});
  expect_the_cpus(run(runner, unit), unit);
}

// Measured a thousand times slower, it would be longer about one lane than the other about all.
TEST_F(CardsTest, ACardThatWouldHoldUpTheUnitTakesNoLane) {
  std::atomic<int> products = 0;
  const auto slow = cpu_as_card("slow", [&] {
    ++products;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  });
  const auto fast = cpu_as_card("fast");
  slow->measure(), fast->measure();
  products = 0;
  runner.use_cards({slow, fast}, on_failed);
  const protocol::Unit unit = unit_of(4);
  expect_the_cpus(run(runner, unit), unit);
  EXPECT_EQ(products, 0);
}

// Its lane is computed again, with activations computed twice, and so is that of the next unit.
TEST_F(CardsTest, ACardThatRunsOutOfMemoryGoesOnWithASmallerPlan) {
  use_layers(3);
  int products = 0, runs_out_at = 0;
  runner.use_cards({cpu_as_card("full",
                                [&] {
                                  if (++products == runs_out_at) run_out_as_card("full");
                                })},
                   on_failed, {}, on_short);
  const protocol::Unit unit = unit_of(1);
  const auto products_of_a_run = [&] {
    products = 0;
    expect_the_cpus(run(runner, unit), unit);
    return products;
  };
  const int fast = products_of_a_run();
  runs_out_at = fast - 5;
  const int with_the_failure = products_of_a_run();
  runs_out_at = 0;
  const int lean = products_of_a_run();
  EXPECT_GT(lean, fast);
  EXPECT_EQ(with_the_failure, fast - 5 + lean);
  EXPECT_EQ(shortages, std::vector<std::string>{"full tiny.0.t0: full: 4 bytes: cuMemAlloc_v2: out of memory "
                                                "(CUDA_ERROR_OUT_OF_MEMORY, 2)"});
  EXPECT_TRUE(failures.empty());
}

// Whatever it held goes with its buffers.
TEST_F(CardsTest, ALaneThatAShortCardHeldIsComputedAgain) {
  use_layers(3);
  int results = 0;
  runner.use_cards({cpu_as_card("full", {},
                                [&](size_t bytes) {
                                  if (bytes > 1000 && ++results == 1) run_out_as_card("full");
                                })},
                   on_failed, {}, on_short);
  expect_the_cpus(run(runner, unit_of(3)), unit_of(3));
  EXPECT_EQ(shortages.size(), 1u);
}

// When all is computed: the only lane is encoded on its card, those of two cards are read. The other card has a lane
// only when this one has.
TEST_F(CardsTest, ACardThatRunsOutOfMemoryAtTheEndIsNotLeftOut) {
  use_layers(3);
  for (const uint64_t lanes : {1, 2}) {
    shortages.clear();
    std::promise<void> begun;
    bool begins = true, full = true;
    const auto begin = [&] {
      if (std::exchange(begins, false)) begun.set_value();
    };
    const auto run_out = [&](size_t bytes) {
      if (bytes > 1000 && std::exchange(full, false)) run_out_as_card("full");
    };
    const auto wait = [has_begun = begun.get_future().share()] { has_begun.wait(); };
    runner.use_cards({cpu_as_card("full", begin, run_out), cpu_as_card("other", wait)}, on_failed, {}, on_short);
    expect_the_cpus(run(runner, unit_of(lanes)), unit_of(lanes));
    EXPECT_EQ(shortages, std::vector<std::string>{"full tiny.0.t0: full: 4 bytes: cuMemAlloc_v2: out of memory "
                                                  "(CUDA_ERROR_OUT_OF_MEMORY, 2)"});
    EXPECT_TRUE(failures.empty());
    EXPECT_EQ(runner.cards().size(), 2u);
  }
}

TEST_F(CardsTest, ACardThatHasNoSmallerPlanIsThereForTheNextUnit) {
  use_layers(3);
  int shortage = 3;  // with the sums of lanes, then of the fastest plan, and of the other
  const auto full = cpu_as_card("full", [&] {
    if (shortage > 0 && shortage-- > 0) run_out_as_card("full");
  });
  runner.use_cards({full}, on_failed, {}, on_short);
  try {
    run(runner, unit_of(2));
    FAIL();
  } catch (const UnitRefused& refused) {
    const std::string what = refused.what();
    EXPECT_EQ(what.rfind("has no card: full: the unit needs ", 0), 0u) << what;
    EXPECT_TRUE(what.ends_with(" of its memory, and ran out of it with that")) << what;
  }
  EXPECT_EQ(shortages.size(), 3u);
  EXPECT_TRUE(failures.empty());
  EXPECT_EQ(runner.cards(), UnitRunner::Cards{full});
  expect_the_cpus(run(runner, unit_of(2)), unit_of(2));
}

// The good card waits with its first lane until the other has run out.
TEST_F(CardsTest, OthersComputeTheLanesOfAShortCard) {
  std::promise<void> out;
  const std::shared_future<void> has_run_out = out.get_future().share();
  const auto full = cpu_as_card("full", [&out, once = true]() mutable {
    if (std::exchange(once, false)) out.set_value();
    run_out_as_card("full");
  });
  runner.use_cards({full, cpu_as_card("good", [=] { has_run_out.wait(); })}, on_failed, {}, on_short);
  expect_the_cpus(run(runner, unit_of(4)), unit_of(4));
  EXPECT_EQ(shortages.size(), 1u);
  EXPECT_EQ(runner.cards().size(), 2u);
}

// Whichever of its copies of a result fails: the one that makes room for the next lane, or the one at the end.
TEST_F(CardsTest, ALaneThatACardLosesIsComputedAgain) {
  const protocol::Unit unit = unit_of(5);
  const size_t whole = kernels::parameter_count(job.config) * sizeof(float);
  for (const int failing : {1, 2, 3}) {
    failures.clear();
    int results = 0;
    const auto bad = cpu_as_card("bad", {}, [&](size_t bytes) {
      if (bytes == whole && ++results == failing) fail_as_card("bad");
    });
    const auto good = cpu_as_card("good");
    runner.use_cards({bad, good}, on_failed);
    expect_the_cpus(run(runner, unit), unit);
    if (results < failing) continue;  // the other one was faster
    EXPECT_EQ(failures.size(), 1u);
    EXPECT_EQ(runner.cards(), UnitRunner::Cards{good});
  }
  int results = 0;
  runner.use_cards({cpu_as_card("bad", {},
                                [&](size_t bytes) {
                                  if (bytes > 1000 && ++results == 1) fail_as_card("bad");
                                })},
                   on_failed);
  EXPECT_THROW(run(runner, unit), NoCardLeft) << "the sum was never read";
}

// One card adds its lanes, and only the encoding of their sum crosses.
TEST_F(CardsTest, OfOneCardTheSumCrossesEncoded) {
  size_t bytes = 0;
  runner.use_cards({cpu_as_card("card", {}, [&](size_t read) { bytes += read > 1000 ? read : 0; })}, on_failed);
  for (const auto codec : {kernels::Codec::fp32, kernels::Codec::int4, kernels::Codec::int8}) {
    for (const uint64_t lanes : {2, 3, 7, 12}) {
      protocol::Unit unit = unit_of(lanes);
      unit.codec = protocol::name_of(static_cast<protocol::CodecId>(codec));
      bytes = 0;
      expect_the_cpus(run(runner, unit), unit);
      EXPECT_EQ(bytes, kernels::encoded_bytes(codec, kernels::parameter_count(job.config))) << lanes << " lanes";
    }
  }
}

// Its lanes cross as those of several cards do.
TEST_F(CardsTest, OneCardWithoutRoomForSumsLeavesThemToTheHost) {
  const size_t whole = kernels::parameter_count(job.config) * sizeof(float);
  const uint64_t lanes = 4;
  for (const bool room : {false, true}) {
    int asked = 0, results = 0;
    // Of 4 lanes two sums wait at most.
    const size_t left = (64 << 20) + 2 * whole - (room ? 0 : 1);
    runner.use_cards({sized_card(
                         "card", [&] { return asked++ == 0 ? 6'000'000'000 : left; }, {},
                         [&](size_t bytes) { results += bytes == whole; })},
                     on_failed);
    protocol::Unit unit = unit_of(lanes);
    unit.codec = "int8";
    expect_the_cpus(run(runner, unit), unit);
    EXPECT_EQ(results, room ? 0 : 4);
  }
}

// Its plan stays as it is: it was the sums that found no room.
TEST_F(CardsTest, ASumThatFindsNoRoomAfterAllIsLeftToTheHost) {
  class WithoutRoom : public CpuAsCard {
   public:
    WithoutRoom(size_t bytes, std::function<void()> before) : CpuAsCard(std::move(before)), bytes_(bytes) {}
    void* allocate(size_t bytes) override {
      if (bytes == bytes_ && ++asked_ == 2) run_out_as_card("card");
      return CpuAsCard::allocate(bytes);
    }

   private:
    const size_t bytes_;
    int asked_ = 0;
  };
  const size_t whole = kernels::parameter_count(job.config) * sizeof(float);
  int products = 0;
  const auto count = [&] { ++products; };
  runner.use_cards({cpu_as_card("card", count)}, on_failed, {}, on_short);
  expect_the_cpus(run(runner, unit_of(4)), unit_of(4));
  const int of_a_lane = products / 4;
  products = 0;
  runner.use_cards({std::make_shared<LaneWorker>("card", [=] { return std::make_unique<WithoutRoom>(whole, count); })},
                   on_failed, {}, on_short);
  expect_the_cpus(run(runner, unit_of(4)), unit_of(4));
  EXPECT_EQ(products, (3 + 4) * of_a_lane) << "the second sum waits after the third lane";
  EXPECT_EQ(shortages.size(), 1u);
  EXPECT_TRUE(failures.empty());
}

// Lanes are with the host then, so the next card adds none itself.
TEST_F(CardsTest, ACardTakesOverFromOneWithoutRoomForSums) {
  const protocol::Unit unit = unit_of(5);
  int asked = 0, products = 0;
  const auto small = sized_card(
      "small", [&] { return asked++ == 0 ? 6'000'000'000 : 64 << 20; },
      [&] {
        if (++products == 200) fail_as_card("small");
      });
  const auto good = cpu_as_card("good");
  runner.use_cards({small, good}, on_failed);
  expect_the_cpus(run(runner, unit, host_bytes_with(1, unit)), unit);
  EXPECT_EQ(failures.size(), 1u);
  EXPECT_EQ(runner.cards(), UnitRunner::Cards{good});
}

// With the card go the lanes that it has added; another one computes them all.
TEST_F(CardsTest, TheSumOfACardThatFailsIsComputedAgain) {
  const protocol::Unit unit = unit_of(5);
  // Only one card works: the host has not the memory for two.
  const uint64_t limit = host_bytes_with(1, unit);
  for (const bool at_the_end : {false, true}) {
    int products = 0;
    failures.clear();
    const auto bad = cpu_as_card(
        "bad",
        [&] {
          if (!at_the_end && ++products == 100) fail_as_card("bad");
        },
        [&](size_t bytes) {
          if (at_the_end && bytes > 1000) fail_as_card("bad");
        });
    const auto good = cpu_as_card("good");
    runner.use_cards({bad, good}, on_failed);
    ASSERT_EQ(runner.plan(unit, job.config, limit).cards, 1u);
    expect_the_cpus(run(runner, unit, limit), unit);
    EXPECT_EQ(failures.size(), 1u);
    EXPECT_EQ(runner.cards(), UnitRunner::Cards{good});
  }
}

// Each lane is read once, also where its blocks are segments, and none is in the host's memory where each has a card.
TEST_F(CardsTest, ResultsCrossOnceAndStayOnTheirCards) {
  const size_t whole = kernels::parameter_count(job.config) * sizeof(float);
  const protocol::Unit unit = unit_of(4), two_blocks = gradients_of(4, 150);
  std::atomic<int> results = 0;
  UnitRunner::Cards cards;
  for (int i = 0; i < 4; ++i) {
    cards.push_back(cpu_as_card("card " + std::to_string(i), {}, [&](size_t bytes) { results += bytes == whole; }));
  }
  for (size_t count = 2; count <= cards.size(); ++count) {
    runner.use_cards({cards.begin(), cards.begin() + static_cast<std::ptrdiff_t>(count)}, on_failed);
    for (const protocol::Unit& each : {unit, two_blocks}) {
      results = 0;
      expect_the_cpus(run(runner, each), each);
      EXPECT_EQ(results, 4);
    }
  }
  // Weights and the result's encoding; two pieces of each card and four of their sums, which here are as large as a
  // result; tokens.
  const uint64_t bytes = runner.plan(unit, job.config, UINT64_MAX).bytes;
  EXPECT_GT(bytes, (1 + 2 * 4 + 4) * whole);
  EXPECT_LT(bytes, (1 + 2 * 4 + 4 + 1) * whole);
}

TEST_F(CardsTest, ASumThatIsNotFiniteIsNamedAsTheCpuNamesIt) {
  const std::string expected = failure_of(runner, overflowing_unit(3));
  EXPECT_EQ(expected, "numeric failure: transformer.wte.weight is not finite at step 0");
  for (const size_t count : {1, 2, 3}) {
    UnitRunner::Cards cards;
    for (size_t i = 0; i < count; ++i) cards.push_back(cpu_as_card("card " + std::to_string(i)));
    runner.use_cards(std::move(cards), on_failed);
    EXPECT_EQ(failure_of(runner, overflowing_unit(3)), expected) << count << " cards";
  }
  EXPECT_TRUE(failures.empty());
}

// Results of two pieces and a part.
class WideCardsTest : public CardsTest {
 protected:
  WideCardsTest() : CardsTest(140'000) {}
};

TEST_F(WideCardsTest, ResultsArePassedInPieces) {
  const size_t count = kernels::parameter_count(job.config);
  ASSERT_GT(count, 2 * piece_values);
  const protocol::Unit unit = unit_of(3);
  std::atomic<size_t> bytes = 0;
  std::atomic<int> left = 2;
  const auto read = [&](size_t piece) {
    if (piece > 1000) bytes += piece;
  };
  runner.use_cards({cpu_as_card("a", {}, read), cpu_as_card("b", {}, read)}, on_failed);
  expect_the_cpus(run(runner, unit), unit);
  EXPECT_EQ(bytes, 3 * count * sizeof(float));

  std::atomic<bool> stop = false;
  const auto stop_in_the_second = [&](size_t piece) {
    if (piece > 1000 && --left == 0) stop = true;
  };
  runner.use_cards({cpu_as_card("a", {}, stop_in_the_second)}, on_failed);
  EXPECT_THROW(run(runner, unit_of(1), UINT64_MAX, [&] { return stop.load(); }), kernels::Cancelled);
  EXPECT_EQ(runner.cards().size(), 1u);
  left = 2;

  const auto fail_in_the_second = [&](size_t piece) {
    if (piece > 1000 && --left == 0) fail_as_card("bad");
  };
  const auto good = cpu_as_card("good");
  runner.use_cards({cpu_as_card("bad", {}, fail_in_the_second), good}, on_failed);
  expect_the_cpus(run(runner, unit_of(2)), unit_of(2));
  EXPECT_EQ(runner.cards().size(), left > 0 ? 2u : 1u) << "unless the good one did both";

  left = 2;
  failures.clear();
  runner.use_cards({cpu_as_card("bad", {}, fail_in_the_second), good}, on_failed);
  expect_the_cpus(run(runner, unit_of(1)), unit_of(1));
  EXPECT_EQ(failures.size(), 1u);
}

TEST_F(CardsTest, WithNoCardLeftTheUnitIsNotComplete) {
  runner.use_cards({cpu_as_card("a", [] { fail_as_card("a"); }), cpu_as_card("b", [] { fail_as_card("b"); })},
                   on_failed);
  const protocol::Unit unit = unit_of(4);
  EXPECT_THROW(run(runner, unit), NoCardLeft);
  EXPECT_EQ(failures.size(), 2u);
  EXPECT_TRUE(runner.cards().empty());
  expect_the_cpus(run(runner, unit), unit);
}

// Too little of the host's memory for both at once: the second waits, and takes over.
TEST_F(CardsTest, ACardThatWasNotNeededTakesOver) {
  runner.use_cards({cpu_as_card("a", [] { fail_as_card("a"); }), cpu_as_card("b")}, on_failed);
  const protocol::Unit unit = unit_of(4);
  EXPECT_EQ(runner.plan(unit, job.config, UINT64_MAX).cards, 2u);
  EXPECT_EQ(runner.plan(unit, job.config, 0).cards, 1u);
  EXPECT_LT(runner.plan(unit, job.config, 0).bytes, runner.plan(unit, job.config, UINT64_MAX).bytes);
  expect_the_cpus(run(runner, unit, 0), unit);
  EXPECT_EQ(failures.size(), 1u);
}

TEST_F(CardsTest, AFailureOfTheUnitIsThatOfItsLowestLane) {
  first_bad_shard = 2;
  runner.use_cards({cpu_as_card("a"), cpu_as_card("b"), cpu_as_card("c")}, on_failed);
  for (int again = 0; again < 5; ++again) {
    try {
      run(runner, unit_of(7));
      FAIL();
    } catch (const std::invalid_argument& error) {
      EXPECT_NE(std::string(error.what()).find("token 60002 "), std::string::npos) << error.what();
    }
  }
  EXPECT_TRUE(failures.empty());
}

}  // namespace
}  // namespace agent
