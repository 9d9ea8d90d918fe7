#include "lane_queue.h"

#include <gtest/gtest.h>

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
  for (uint64_t lane = 0; lane < 3; ++lane) {
    EXPECT_TRUE(queue.waiting());
    EXPECT_EQ(queue.take(), lane);
  }
  EXPECT_FALSE(queue.waiting());
  for (uint64_t lane = 0; lane < 3; ++lane) queue.done();
  EXPECT_EQ(queue.take(), std::nullopt);
  EXPECT_EQ(failure_of(queue), "none");
}

TEST(LaneQueue, ALaneThatIsGivenBackIsTakenNext) {
  LaneQueue queue(3);
  queue.take(), queue.take();
  queue.give_back(0);
  EXPECT_EQ(queue.take(), 0u);
  EXPECT_EQ(queue.take(), 2u);
}

TEST(LaneQueue, WhoHasNothingToDoWaitsForWhatOthersMayGiveBack) {
  LaneQueue queue(1);
  queue.take();
  std::future<std::optional<uint64_t>> second = std::async(std::launch::async, [&] { return queue.take(); });
  queue.give_back(0);
  EXPECT_EQ(second.get(), 0u);
  second = std::async(std::launch::async, [&] { return queue.take(); });
  queue.done();
  EXPECT_EQ(second.get(), std::nullopt);
}

TEST(LaneQueue, TheFailureIsThatOfTheLowestLane) {
  LaneQueue queue(5);
  for (int lane = 0; lane < 4; ++lane) queue.take();
  queue.fail(3, failed("of lane 3"));
  EXPECT_FALSE(queue.waiting()) << "lane 4 is not asked for any more";
  queue.give_back(0);
  EXPECT_EQ(queue.take(), 0u) << "lower lanes are";
  queue.fail(1, failed("of lane 1"));
  queue.fail(2, failed("of lane 2"));
  queue.done();
  EXPECT_EQ(queue.take(), std::nullopt);
  EXPECT_EQ(failure_of(queue), "of lane 1");
}

}  // namespace
}  // namespace agent
