// Which cards are linked, when units take them in changing sets, and what becomes of links that are in the way.
#include "card_sets.h"

#include <chrono>
#include <future>
#include <thread>
#include <utility>

#include "linked_cards_fixture.h"

namespace agent {
namespace {

class CardSetsTest : public LinkedCardsTest {
 protected:
  // One after the other, each with a lane.
  void compute(UnitRunner& by, const UnitRunner::Cards& with) {
    use(with, by);
    expect_the_cpus(run(by, unit_of(with.size())), unit_of(with.size()));
    by.use_cards({});  // as a rig does between units
  }

  UnitRunner other{[] { return kernels::make_cpu_ops(1); }, sets};
  const std::shared_ptr<LaneWorker> a = cpu_as_card("a"), b = cpu_as_card("b"), c = cpu_as_card("c"),
                                    d = cpu_as_card("d");
};

// The links of the test see to it that no card has two.
TEST_F(CardSetsTest, LinksStayWithTheirSetWhereverItWorks) {
  struct {
    UnitRunner& by;
    const UnitRunner::Cards cards;
    int linked, alive;
  } const units[] = {{linked, {a, b}, 1, 1}, {linked, {c, d}, 2, 2}, {other, {b, a}, 2, 2},    {linked, {a}, 2, 2},
                     {other, {b, c}, 3, 1},  {linked, {a}, 3, 1},    {other, {a, b, d}, 4, 1}, {linked, {a, b}, 5, 1}};
  for (const auto& [by, with, linked_so_far, alive] : units) {
    seen.floats = 0;
    compute(by, with);
    EXPECT_EQ(seen.linked, linked_so_far);
    EXPECT_EQ(seen.alive, alive);
    EXPECT_EQ(seen.floats > 0, with.size() > 1);
  }
  EXPECT_TRUE(sets->close(*b));
  EXPECT_FALSE(sets->close(*a));
  EXPECT_EQ(seen.alive, 0);
  EXPECT_EQ(seen.given_up, 0);
  EXPECT_TRUE(troubles.empty());
}

TEST_F(CardSetsTest, ASetThatCannotBeLinkedIsAloneInThat) {
  seen.fail_to_link = 1;
  for (const UnitRunner::Cards& with : {UnitRunner::Cards{a, b, c}, {c, b, a}}) compute(linked, with);
  EXPECT_EQ(troubles, std::vector<std::string>{"tiny.0.t0: ncclCommInitAll: cuLaunchKernel: unspecified launch failure "
                                               "(CUDA_ERROR_LAUNCH_FAILED, 719)"});
  EXPECT_EQ(seen.linked, 0);
  compute(other, {a, b});
  EXPECT_EQ(seen.linked, 1);
  compute(other, {a, b, c});
  EXPECT_EQ(seen.linked, 1);
  EXPECT_EQ(troubles.size(), 1u);
  EXPECT_TRUE(failures.empty());
}

TEST_F(CardSetsTest, LinksWhoseMemoryAUnitNeedsAreGivenUp) {
  const auto full = sized_card("full", [this]() -> size_t { return seen.alive > 0 ? 1000 : 6'000'000'000; });
  for (int again = 0; again < 2; ++again) compute(linked, {full, a});
  ASSERT_EQ(troubles.size(), 1u);
  EXPECT_EQ(troubles[0].rfind("tiny.0.t0: full, a: NCCL's memory is needed: full: the unit needs ", 0), 0u)
      << troubles[0];
  EXPECT_EQ(seen.linked, 1);
  EXPECT_EQ(seen.alive, 0);
  EXPECT_EQ(seen.floats, 0u);
  EXPECT_TRUE(failures.empty());
}

// Both do, so nobody else computes their lanes; the links give back what they took on either.
TEST_F(CardSetsTest, CardsThatRunOutOfMemoryGoOnWithoutLinks) {
  use_layers(3);
  std::atomic<int> products = 0;
  std::atomic<bool> full = false;
  const auto card = [&](const std::string& name) {
    return sized_card(
        name, [this] { return size_t{6'000'000'000} - static_cast<size_t>(seen.alive); },
        [&, name, shortage = 1]() mutable {
          if (full && shortage-- > 0) run_out_as_card(name);
          ++products;
        });
  };
  const auto x = card("x"), y = card("y");
  compute(runner, {x, y});
  const int fast = products.exchange(0);
  full = true;
  compute(linked, {x, y});
  EXPECT_EQ(products, fast);
  EXPECT_EQ(shortages.size(), 2u);
  EXPECT_EQ(seen.linked, 1);
  EXPECT_EQ(seen.alive, 0);
  ASSERT_EQ(troubles.size(), 1u);
  EXPECT_EQ(troubles[0].rfind("tiny.0.t0: x, y: NCCL's memory is needed: x: 4 bytes: cuMemAlloc_v2: ", 0), 0u)
      << troubles[0];
  EXPECT_TRUE(failures.empty());
}

// The card has what the unit needs at its fastest, but not beside links.
TEST_F(CardSetsTest, NoUnitIsSlowerForTheSakeOfLinks) {
  use_layers(3);
  const size_t bytes = bytes_for(unit_of(2));
  std::atomic<int> products = 0;
  const auto count = [&] { ++products; };
  const auto sized = [&](const std::string& name) {
    return sized_card(
        name, [this, bytes] { return bytes - (seen.alive > 0 ? 1 : 0); }, count);
  };
  compute(runner, {sized("x"), sized("y")});
  const int without_links = products.exchange(0);
  compute(linked, {sized("x"), sized("y")});
  EXPECT_EQ(products, without_links);
  ASSERT_EQ(troubles.size(), 1u);
  EXPECT_EQ(troubles[0].rfind("tiny.0.t0: x, y: NCCL's memory is needed: x: ", 0), 0u) << troubles[0];
}

TEST_F(CardSetsTest, LinksMakeRoomForAUnitOfOneOfTheirCards) {
  bool is_full = false;
  const auto full = sized_card("full", [&]() -> size_t { return is_full && seen.alive > 0 ? 1000 : 6'000'000'000; });
  compute(linked, {full, a});
  is_full = true;
  use({full}, other);
  expect_the_cpus(run(other, gradients_of(1)), gradients_of(1));
  EXPECT_EQ(seen.alive, 0);
  is_full = false;
  compute(linked, {full, a});
  EXPECT_EQ(seen.linked, 2);
  EXPECT_TRUE(troubles.empty()) << "nothing is given up";
}

// Their end takes long, and is another unit's doing, which has one of the other cards.
TEST_F(CardSetsTest, AUnitWaitsForTheEndOfLinksThatAreInItsWay) {
  std::promise<void> ending, planned;
  int asked = 0;  // while they are in the way
  const auto full = sized_card("full", [&]() -> size_t {
    if (seen.alive == 0 || !seen.before_end) return 6'000'000'000 - static_cast<size_t>(seen.alive);
    if (asked++ == 0) planned.set_value();
    return 1000;
  });
  compute(linked, {full, a});
  seen.before_end = [&] {
    ending.set_value();
    planned.get_future().wait();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  };
  const std::jthread of_another_unit([&] { EXPECT_TRUE(sets->close(*a)); });
  ending.get_future().wait();
  use({full}, other);
  expect_the_cpus(run(other, gradients_of(1)), gradients_of(1));
  EXPECT_EQ(asked, 1);
}

TEST_F(CardSetsTest, AUnitIsPlannedAgainWhenLinksEndedMeanwhile) {
  bool is_full = false;
  const auto full = sized_card("full", [&]() -> size_t {
    const size_t free = is_full && seen.alive > 0 ? 1000 : 6'000'000'000 - static_cast<size_t>(seen.alive);
    if (is_full) sets->close(*a);  // by another unit
    return free;
  });
  compute(linked, {full, a});
  ASSERT_GT(sets->bytes_on(*full), 0u);
  is_full = true;
  use({full}, other);
  expect_the_cpus(run(other, gradients_of(1)), gradients_of(1));
}

// It is told of when cards are linked, but is no failure of links.
TEST_F(CardSetsTest, AFailureFromBeforeIsTheCards) {
  bool broken = true;  // until it is told of, as of what was queued on a card
  const auto bad = sized_card("bad", [&]() -> size_t {
    if (std::exchange(broken, false)) fail_as_card("bad");
    return 6'000'000'000;
  });
  use({a, bad, b}, linked);
  expect_the_cpus(run(linked, unit_of(3)), unit_of(3));
  EXPECT_EQ(linked.cards(), (UnitRunner::Cards{a, b}));
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_EQ(failures[0].rfind("bad tiny.0.t0: bad: cuLaunchKernel: ", 0), 0u) << failures[0];
  compute(linked, {a, b});
  EXPECT_EQ(seen.linked, 1);
  EXPECT_TRUE(troubles.empty());
}

TEST_F(CardSetsTest, CardsThatDoWithoutAreNotKept) {
  seen.fail_to_link = 1;
  auto gone = cpu_as_card("gone");
  const std::weak_ptr<LaneWorker> still_there = gone;
  compute(linked, {gone, a});
  ASSERT_EQ(troubles.size(), 1u);
  gone.reset();
  EXPECT_TRUE(still_there.expired());
}

TEST_F(CardSetsTest, ACardThatFailsAloneEndsTheLinksThatItHas) {
  bool broken = false;
  const auto bad = cpu_as_card("bad", [&] {
    if (broken) fail_as_card("bad");
  });
  compute(linked, {bad, a});
  broken = true;
  use({bad}, other);
  EXPECT_THROW(run(other, unit_of(1)), NoCardLeft);
  EXPECT_EQ(seen.given_up, 1);
  EXPECT_EQ(seen.alive, 0);
  EXPECT_TRUE(troubles.empty());
}

}  // namespace
}  // namespace agent
