// Lanes that cards pass to each other, over links that are copies in the host's memory, some of which fail.
#include "lane_exchange.h"

#include <future>
#include <latch>

#include "linked_cards_fixture.h"

namespace agent {
namespace {

TEST_F(LinkedCardsTest, AnyNumberOfCardsGivesTheResultOfTheCpu) {
  for (const size_t count : {2, 3, 5, 6, 12}) {
    use(cards(count));
    for (const uint64_t lanes : {12, 7}) {
      for (const protocol::Unit& unit : {unit_of(lanes), gradients_of(lanes)}) {
        seen.floats = 0;
        expect_the_cpus(run(linked, unit), unit);
        EXPECT_GT(seen.floats, 0u) << count << " cards, " << lanes << " lanes";
      }
    }
  }
  EXPECT_TRUE(failures.empty());
  EXPECT_TRUE(troubles.empty());
}

// A lane leaves its card once, in pieces, and only the sum's encoding goes to the host.
TEST_F(LinkedCardsTest, OnlyTheEncodedSumGoesToTheHost) {
  const protocol::Unit unit = unit_of(4);
  std::atomic<size_t> to_host = 0;
  UnitRunner::Cards four;
  std::latch each_has_one(4);
  for (int i = 0; i < 4; ++i) {
    const auto wait_once = [&, first = true]() mutable {
      if (std::exchange(first, false)) each_has_one.arrive_and_wait();
    };
    four.push_back(cpu_as_card("card", wait_once, [&](size_t bytes) { to_host += bytes; }));
  }
  use(four);
  expect_the_cpus(run(linked, unit), unit);
  EXPECT_EQ(seen.floats, 3 * parameters());
  EXPECT_EQ(to_host, kernels::encoded_bytes(kernels::Codec::int4, parameters()));
  expect_the_cpus(run(linked, unit), unit);
  EXPECT_EQ(seen.linked, 1) << "links stay";
  runner.use_cards(four);
  EXPECT_EQ(runner.plan(unit, job.config, UINT64_MAX).bytes, linked.plan(unit, job.config, UINT64_MAX).bytes);
}

TEST_F(LinkedCardsTest, WhatFailsOnTheWayGoesThroughTheHost) {
  for (const bool in_wait : {false, true}) {
    UnitRunner fresh([] { return kernels::make_cpu_ops(1); }, std::make_shared<CardSets>(copying_links(seen)));
    (in_wait ? seen.fail_in_wait : seen.fail_in_start) = 0;
    seen.given_up = 0;
    troubles.clear();
    use(cards(3), fresh);
    for (int again = 0; again < 2; ++again) expect_the_cpus(run(fresh, unit_of(5)), unit_of(5));
    ASSERT_EQ(troubles.size(), 1u);
    EXPECT_EQ(troubles[0].rfind(in_wait ? "tiny.0.t0: ncclRecv: " : "tiny.0.t0: ncclSend: ", 0), 0u) << troubles[0];
    EXPECT_EQ(seen.given_up, 1);
    EXPECT_EQ(seen.alive, 0);
    EXPECT_TRUE(failures.empty()) << "the cards are well";
  }
}

// The good ones wait with their first lane until the bad one has failed.
TEST_F(LinkedCardsTest, ACardThatFailsTakesTheLinksWithIt) {
  std::promise<void> failed;
  const std::shared_future<void> has_failed = failed.get_future().share();
  const auto wait = [=] { has_failed.wait(); };
  const auto a = cpu_as_card("a", wait), b = cpu_as_card("b", wait);
  const auto bad = cpu_as_card("bad", [n = 0]() mutable {
    if (++n == 20) fail_as_card("bad");
  });
  linked.use_cards(
      {a, bad, b},
      [&](const std::string& card, const std::string& what) {
        on_failed(card, what);
        failed.set_value();
      },
      [this](const std::string& what) { troubles.push_back(what); });
  expect_the_cpus(run(linked, unit_of(6)), unit_of(6));
  EXPECT_EQ(failures.size(), 1u);
  EXPECT_EQ(seen.given_up, 1);
  EXPECT_EQ(seen.floats, 0u);
  expect_the_cpus(run(linked, unit_of(6)), unit_of(6));
  EXPECT_EQ(seen.linked, 2) << "the others among themselves";
  EXPECT_GT(seen.floats, 0u);
  EXPECT_TRUE(troubles.empty());
}

// What it failed with on the way, it fails with again when the host reads it.
TEST_F(LinkedCardsTest, ACardThatFailsOnTheWayIsToBlameNotTheLinks) {
  std::latch each_has_one(3);
  const auto wait_once = [&, first = true]() mutable {
    if (std::exchange(first, false)) each_has_one.arrive_and_wait();
  };
  const auto fail = [](size_t bytes) {
    if (bytes > 256) fail_as_card("bad");
  };
  use({cpu_as_card("a", wait_once), cpu_as_card("bad", wait_once, fail), cpu_as_card("c", wait_once)});
  for (int again = 0; again < 2; ++again) {
    seen.floats = 0;
    expect_the_cpus(run(linked, unit_of(3)), unit_of(3));
    EXPECT_GT(seen.floats, 0u);
  }
  EXPECT_EQ(failures.size(), 1u);
  EXPECT_EQ(linked.cards().size(), 2u);
  EXPECT_EQ(seen.linked, 2);
  EXPECT_TRUE(troubles.empty());
}

// One has the memory for the unit, but not for the buffer beside it.
TEST_F(LinkedCardsTest, WithoutRoomForABufferLanesGoThroughTheHost) {
  const protocol::Unit unit = unit_of(2);
  const size_t least = bytes_for(unit);
  for (const size_t more : {0, 1'000'000}) {
    seen.floats = 0;
    use({sized_card("full", [=] { return least + more; }), cpu_as_card("other")});
    expect_the_cpus(run(linked, unit), unit);
    EXPECT_EQ(seen.floats > 0, more > 0);
  }
  EXPECT_TRUE(troubles.empty());
  EXPECT_TRUE(failures.empty());
}

TEST_F(LinkedCardsTest, ASumThatIsNotFiniteIsNamedAsTheCpuNamesIt) {
  const std::string expected = failure_of(runner, overflowing_unit(3));
  EXPECT_NE(expected, "");
  use(cards(3));
  EXPECT_EQ(failure_of(linked, overflowing_unit(3)), expected);
  EXPECT_GT(seen.floats, 0u);
}

// Results of two pieces and a part.
class WideLaneExchangeTest : public LinkedCardsTest {
 protected:
  WideLaneExchangeTest() : LinkedCardsTest(140'000) {}
};

TEST_F(WideLaneExchangeTest, ResultsArePassedInSteps) {
  ASSERT_GT(parameters(), 2 * piece_values);
  use(cards(2));
  expect_the_cpus(run(linked, gradients_of(2)), gradients_of(2));
  EXPECT_GT(seen.groups, 1u);

  std::atomic<bool> stop = false;
  const auto stop_in_the_first = [&](size_t bytes) { stop = stop || bytes > 100'000; };
  use({cpu_as_card("a", {}, stop_in_the_first), cpu_as_card("b")});
  EXPECT_THROW(run(linked, gradients_of(2), UINT64_MAX, [&] { return stop.load(); }), kernels::Cancelled);
  stop = false;
  EXPECT_EQ(seen.given_up, 0);

  seen.fail_in_wait = 1;
  use(cards(2));
  expect_the_cpus(run(linked, gradients_of(2)), gradients_of(2));
  EXPECT_EQ(troubles.size(), 1u);
}

// A card that is about to fail finds what is not there.
TEST_F(WideLaneExchangeTest, WhatWasSaidOfASumThatFailedIsForgotten) {
  class Garbled : public CpuAsCard {
   public:
    explicit Garbled(size_t whole) : CpuAsCard({}), whole_(whole) {}
    size_t first_non_finite(const float* x, size_t count) override {
      return count < whole_ ? 0 : CpuAsCard::first_non_finite(x, count);
    }

   private:
    const size_t whole_;
  };
  seen.fail_in_wait = 1;
  use({cpu_as_card("a"), std::make_shared<LaneWorker>("b", [&] { return std::make_unique<Garbled>(parameters()); })});
  expect_the_cpus(run(linked, gradients_of(2)), gradients_of(2));
  EXPECT_EQ(troubles.size(), 1u);
}

}  // namespace
}  // namespace agent
