#include "lane_queue.h"

#include <utility>

namespace agent {

LaneQueue::LaneQueue(uint64_t lanes) : failed_(lanes) {
  for (uint64_t lane = 0; lane < lanes; ++lane) waiting_.insert(waiting_.end(), lane);
}

std::optional<uint64_t> LaneQueue::take() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !waiting_.empty() || taken_ == 0; });
  if (waiting_.empty()) return std::nullopt;
  const uint64_t lane = *waiting_.begin();
  waiting_.erase(waiting_.begin());
  ++taken_;
  return lane;
}

void LaneQueue::end() {
  --taken_;
  changed_.notify_all();
}

void LaneQueue::done() {
  const std::lock_guard lock(mutex_);
  end();
}

void LaneQueue::give_back(uint64_t lane) {
  const std::lock_guard lock(mutex_);
  if (lane < failed_) waiting_.insert(lane);
  end();
}

void LaneQueue::lost(uint64_t lane) {
  const std::lock_guard lock(mutex_);
  if (lane < failed_) waiting_.insert(lane);
  changed_.notify_all();
}

void LaneQueue::fail(uint64_t lane, std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  if (lane < failed_) {
    failed_ = lane;
    error_ = std::move(error);
    waiting_.erase(waiting_.lower_bound(lane), waiting_.end());
  }
  end();
}

bool LaneQueue::waiting() const {
  const std::lock_guard lock(mutex_);
  return !waiting_.empty();
}

void LaneQueue::rethrow() const {
  const std::lock_guard lock(mutex_);
  if (error_) std::rethrow_exception(error_);
}

}  // namespace agent
