// Lanes that cards pass to each other, over links that are copies in the host's memory, some of which fail.
#include "lane_exchange.h"

#include <cstring>
#include <future>
#include <latch>

#include "cards_fixture.h"

namespace agent {
namespace {

// What the links of a test did, and what they are told to do.
struct Seen {
  int linked = 0, alive = 0, given_up = 0;
  size_t floats = 0, groups = 0;
  int fail_to_link = 0;                       // so often
  int fail_in_start = -1, fail_in_wait = -1;  // the call of that number
};

class CopyingLinks : public kernels::CardLinks {
 public:
  explicit CopyingLinks(Seen& seen) : seen_(seen) { ++seen_.alive; }
  ~CopyingLinks() override { --seen_.alive; }

  void start(std::span<const Transfer> transfers) override {
    EXPECT_TRUE(on_their_way_.empty()) << "no wait() for the ones before";
    if (seen_.fail_in_start-- == 0) fail_as_card("ncclSend");
    on_their_way_.assign(transfers.begin(), transfers.end());
    ++seen_.groups;
  }
  void wait() override {
    if (seen_.fail_in_wait-- == 0) fail_as_card("ncclRecv");
    for (const Transfer& transfer : on_their_way_) {
      EXPECT_NE(transfer.from, transfer.to);
      std::memcpy(transfer.target, transfer.source, transfer.count * sizeof(float));
      seen_.floats += transfer.count;
    }
    on_their_way_.clear();
  }
  void give_up() override { ++seen_.given_up; }

 private:
  Seen& seen_;
  std::vector<Transfer> on_their_way_;
};

class LaneExchangeTest : public CardsTest {
 protected:
  explicit LaneExchangeTest(size_t inner = 64) : CardsTest(inner) {}

  static UnitRunner::Cards cards(size_t count) {
    UnitRunner::Cards made;
    for (size_t i = 0; i < count; ++i) made.push_back(cpu_as_card("card " + std::to_string(i)));
    return made;
  }
  void use(UnitRunner::Cards given) {
    linked.use_cards(std::move(given), on_failed, [this](const std::string& what) { troubles.push_back(what); });
  }
  size_t parameters() const { return kernels::parameter_count(job.config); }

  Seen seen;
  std::vector<std::string> troubles;
  UnitRunner linked{[] { return kernels::make_cpu_ops(1); },
                    [this](auto, const kernels::Cancel&) -> std::unique_ptr<kernels::CardLinks> {
                      if (seen.fail_to_link-- > 0) fail_as_card("ncclCommInitAll");
                      ++seen.linked;
                      return std::make_unique<CopyingLinks>(seen);
                    }};
};

TEST_F(LaneExchangeTest, AnyNumberOfCardsGivesTheResultOfTheCpu) {
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

// A lane leaves its card once, in pieces, and only the sum goes to the host.
TEST_F(LaneExchangeTest, OnlyTheSumGoesToTheHost) {
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
  EXPECT_EQ(to_host, parameters() * sizeof(float));
  expect_the_cpus(run(linked, unit), unit);
  EXPECT_EQ(seen.linked, 1) << "links stay";
  runner.use_cards(four);
  EXPECT_EQ(runner.plan(unit, job.config, UINT64_MAX).bytes, linked.plan(unit, job.config, UINT64_MAX).bytes);
}

TEST_F(LaneExchangeTest, OtherCardsAreLinkedAnew) {
  const UnitRunner::Cards three = cards(3);
  for (const size_t count : {2, 2, 3, 1, 2}) {
    use({three.begin(), three.begin() + static_cast<std::ptrdiff_t>(count)});
    expect_the_cpus(run(linked, unit_of(3)), unit_of(3));
    EXPECT_EQ(seen.alive, count > 1 ? 1 : 0);
    linked.use_cards({});  // as a rig does between units
  }
  EXPECT_EQ(seen.linked, 3);
  linked.free_buffers();
  EXPECT_EQ(seen.alive, 0);
  EXPECT_EQ(seen.given_up, 0);
}

TEST_F(LaneExchangeTest, LinksThatCannotBeMadeAreNotNeeded) {
  seen.fail_to_link = 1;
  use(cards(3));
  for (int again = 0; again < 2; ++again) expect_the_cpus(run(linked, unit_of(5)), unit_of(5));
  EXPECT_EQ(troubles, std::vector<std::string>{"tiny.0.t0: ncclCommInitAll: cuLaunchKernel: unspecified launch failure "
                                               "(CUDA_ERROR_LAUNCH_FAILED, 719)"});
  EXPECT_EQ(seen.linked, 0);
  EXPECT_TRUE(failures.empty());
}

TEST_F(LaneExchangeTest, WhatFailsOnTheWayGoesThroughTheHost) {
  for (const bool in_wait : {false, true}) {
    UnitRunner fresh([] { return kernels::make_cpu_ops(1); },
                     [this](auto, auto) { return std::make_unique<CopyingLinks>(seen); });
    (in_wait ? seen.fail_in_wait : seen.fail_in_start) = 0;
    seen.given_up = 0;
    troubles.clear();
    fresh.use_cards(cards(3), on_failed, [this](const std::string& what) { troubles.push_back(what); });
    for (int again = 0; again < 2; ++again) expect_the_cpus(run(fresh, unit_of(5)), unit_of(5));
    ASSERT_EQ(troubles.size(), 1u);
    EXPECT_EQ(troubles[0].rfind(in_wait ? "tiny.0.t0: ncclRecv: " : "tiny.0.t0: ncclSend: ", 0), 0u) << troubles[0];
    EXPECT_EQ(seen.given_up, 1);
    EXPECT_EQ(seen.alive, 0);
    EXPECT_TRUE(failures.empty()) << "the cards are well";
  }
}

// The good ones wait with their first lane until the bad one has failed.
TEST_F(LaneExchangeTest, ACardThatFailsTakesTheLinksWithIt) {
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
TEST_F(LaneExchangeTest, ACardThatFailsOnTheWayIsToBlameNotTheLinks) {
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
TEST_F(LaneExchangeTest, WithoutRoomForABufferLanesGoThroughTheHost) {
  class Full : public CpuAsCard {
   public:
    explicit Full(uint64_t bytes) : CpuAsCard({}), bytes_(bytes) {}
    size_t free_bytes() override { return bytes_; }

   private:
    const uint64_t bytes_;
  };
  const protocol::Unit unit = unit_of(2);
  CpuAsCard probe({});
  const uint64_t least =
      kernels::Trainer::planned_bytes(job.config, unit.batch, unit.context, probe, settings_of(unit)) + (64 << 20);
  for (const uint64_t more : {0, 1'000'000}) {
    seen.floats = 0;
    const auto full = std::make_shared<LaneWorker>("full", [=] { return std::make_unique<Full>(least + more); });
    use({full, cpu_as_card("other")});
    expect_the_cpus(run(linked, unit), unit);
    EXPECT_EQ(seen.floats > 0, more > 0);
  }
  EXPECT_TRUE(troubles.empty());
  EXPECT_TRUE(failures.empty());
}

TEST_F(LaneExchangeTest, LinksWhoseMemoryAUnitNeedsAreGivenUp) {
  class FullWhileLinked : public CpuAsCard {
   public:
    explicit FullWhileLinked(const Seen& seen) : CpuAsCard({}), seen_(seen) {}
    size_t free_bytes() override { return seen_.alive > 0 ? 1000 : CpuAsCard::free_bytes(); }

   private:
    const Seen& seen_;
  };
  use({std::make_shared<LaneWorker>("full", [this] { return std::make_unique<FullWhileLinked>(seen); }),
       cpu_as_card("other")});
  for (int again = 0; again < 2; ++again) expect_the_cpus(run(linked, unit_of(2)), unit_of(2));
  ASSERT_EQ(troubles.size(), 1u);
  EXPECT_EQ(troubles[0].rfind("tiny.0.t0: NCCL's memory is needed: full: the unit needs ", 0), 0u) << troubles[0];
  EXPECT_EQ(seen.linked, 1);
  EXPECT_EQ(seen.alive, 0);
  EXPECT_EQ(seen.floats, 0u);
  EXPECT_EQ(linked.cards().size(), 2u);
}

// Results of two pieces and a part.
class WideLaneExchangeTest : public LaneExchangeTest {
 protected:
  WideLaneExchangeTest() : LaneExchangeTest(140'000) {}
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

}  // namespace
}  // namespace agent
