#include "lane_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <stdexcept>

namespace agent {
namespace {

std::exception_ptr failed(const char* what) { return std::make_exception_ptr(std::runtime_error(what)); }

std::string failure_of(const LaneQueue& queue) {
  try {
    queue.rethrow();
    return "none";
  } catch (const std::runtime_error& failure) {
    return failure.what();
  }
}

TEST(LaneQueue, GivesLanesUpward) {
  LaneQueue queue(3);
  const size_t worker = queue.enlist(0);
  for (uint64_t lane = 0; lane < 3; ++lane) {
    EXPECT_TRUE(queue.waiting());
    EXPECT_EQ(queue.take(worker), lane);
    queue.done(worker);
  }
  EXPECT_FALSE(queue.waiting());
  EXPECT_EQ(queue.take(worker), std::nullopt);
  EXPECT_EQ(failure_of(queue), "none");
}

TEST(LaneQueue, ALaneThatIsGivenBackIsTakenNext) {
  LaneQueue queue(3);
  const size_t one = queue.enlist(0), two = queue.enlist(0);
  queue.take(one), queue.take(two);
  queue.give_back(one, 0);
  EXPECT_EQ(queue.take(one), 0u);
  queue.done(one);
  EXPECT_EQ(queue.take(one), 2u);
}

TEST(LaneQueue, WhoHasNothingToDoWaitsForWhatOthersMayGiveBack) {
  LaneQueue queue(1);
  const size_t one = queue.enlist(0), two = queue.enlist(0);
  queue.take(one);
  std::future<std::optional<uint64_t>> second = std::async(std::launch::async, [&] { return queue.take(two); });
  queue.give_back(one, 0);
  EXPECT_EQ(second.get(), 0u);
  second = std::async(std::launch::async, [&] { return queue.take(one); });
  queue.done(two);
  EXPECT_EQ(second.get(), std::nullopt);
}

TEST(LaneQueue, TheFailureIsThatOfTheLowestLane) {
  LaneQueue queue(5);
  size_t workers[4];
  for (size_t& worker : workers) worker = queue.enlist(0), queue.take(worker);
  queue.fail(workers[3], 3, failed("of lane 3"));
  EXPECT_FALSE(queue.waiting()) << "lane 4 is not asked for any more";
  queue.give_back(workers[0], 0);
  EXPECT_EQ(queue.take(workers[0]), 0u) << "lower lanes are";
  queue.fail(workers[1], 1, failed("of lane 1"));
  queue.fail(workers[2], 2, failed("of lane 2"));
  queue.done(workers[0]);
  EXPECT_EQ(queue.take(workers[0]), std::nullopt);
  EXPECT_EQ(failure_of(queue), "of lane 1");
}

// A queue whose time stands still until it is moved on.
struct Timed {
  explicit Timed(uint64_t lanes) : queue(lanes, [this] { return now.load(); }) {}

  void pass(double seconds) {
    now = now.load() + std::chrono::duration_cast<LaneQueue::Time::duration>(std::chrono::duration<double>(seconds));
  }
  std::future<std::optional<uint64_t>> asking(size_t worker) {
    return std::async(std::launch::async, [this, worker] { return queue.take(worker); });
  }

  std::atomic<LaneQueue::Time> now = LaneQueue::Time();
  LaneQueue queue;
};

bool waits(std::future<std::optional<uint64_t>>& asked) {
  return asked.wait_for(std::chrono::milliseconds(120)) == std::future_status::timeout;
}

// Of 3 lanes the fast card has two ready after 20 seconds, and a third after 30, before the slow one has one.
TEST(LaneQueue, ASlowCardLeavesWhatAFastOneHasReadySooner) {
  Timed timed(3);
  const size_t slow = timed.queue.enlist(40), fast = timed.queue.enlist(10);
  auto asked = timed.asking(slow);
  EXPECT_TRUE(waits(asked));
  for (uint64_t lane = 0; lane < 3; ++lane) {
    EXPECT_EQ(timed.queue.take(fast), lane);
    timed.pass(10);
    timed.queue.done(fast);
  }
  EXPECT_EQ(asked.get(), std::nullopt);
}

// Of 5 lanes it would have the fourth ready after 40, no sooner.
TEST(LaneQueue, ASlowCardTakesWhatAFastOneWouldBeLongerAbout) {
  Timed timed(5);
  const size_t slow = timed.queue.enlist(40);
  timed.queue.enlist(10);
  EXPECT_EQ(timed.queue.take(slow), 0u);
}

TEST(LaneQueue, ASlowCardTakesOverWhenAFastOneIsDismissed) {
  Timed timed(2);
  const size_t slow = timed.queue.enlist(40), fast = timed.queue.enlist(10);
  EXPECT_EQ(timed.queue.take(fast), 0u);
  auto asked = timed.asking(slow);
  EXPECT_TRUE(waits(asked));
  timed.queue.give_back(fast, 0);
  timed.queue.dismiss(fast);
  EXPECT_EQ(asked.get(), 0u);
}

// The first lane takes ten times what was expected, so the slow card's would take 40 seconds; the fast one has both
// that are left ready after 20.
TEST(LaneQueue, ExpectedTimesAreMeasuredByWhatLanesTook) {
  Timed timed(3);
  const size_t slow = timed.queue.enlist(4), fast = timed.queue.enlist(1);
  EXPECT_EQ(timed.queue.take(fast), 0u);
  timed.pass(10);
  timed.queue.done(fast);
  EXPECT_EQ(timed.queue.take(fast), 1u);
  auto asked = timed.asking(slow);
  EXPECT_TRUE(waits(asked));
  timed.pass(10);
  timed.queue.done(fast);
  EXPECT_EQ(timed.queue.take(fast), 2u);
  timed.queue.done(fast);
  EXPECT_EQ(asked.get(), std::nullopt);
}

// One that overruns its time is not believed to be fast any more.
TEST(LaneQueue, ASlowCardWaitsNoLongerThanItWouldCompute) {
  Timed timed(2);
  const size_t slow = timed.queue.enlist(40), fast = timed.queue.enlist(10);
  EXPECT_EQ(timed.queue.take(fast), 0u);
  auto asked = timed.asking(slow);
  timed.pass(39);
  EXPECT_TRUE(waits(asked));
  timed.pass(2);
  EXPECT_EQ(asked.get(), 1u);
}

TEST(LaneQueue, WhoseSpeedIsNotKnownIsNotReckonedWith) {
  Timed timed(2);
  const size_t slow = timed.queue.enlist(40), unknown = timed.queue.enlist(0);
  EXPECT_EQ(timed.queue.take(slow), 0u);
  EXPECT_EQ(timed.queue.take(unknown), 1u);
}

}  // namespace
}  // namespace agent
