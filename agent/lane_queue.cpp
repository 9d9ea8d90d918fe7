#include "lane_queue.h"

#include <algorithm>
#include <utility>

namespace agent {
namespace {

using Seconds = std::chrono::duration<double>;

// A worker that overruns its time changes what others should do, and nobody tells them.
constexpr std::chrono::milliseconds look_again(50);

}  // namespace

LaneQueue::LaneQueue(uint64_t lanes, std::function<Time()> now) : now_(std::move(now)), failed_(lanes) {
  for (uint64_t lane = 0; lane < lanes; ++lane) waiting_.insert(waiting_.end(), lane);
}

size_t LaneQueue::enlist(double seconds) {
  const std::lock_guard lock(mutex_);
  workers_.push_back({.expected = seconds, .measured = {}, .since = {}});
  return workers_.size() - 1;
}

void LaneQueue::dismiss(size_t worker) {
  const std::lock_guard lock(mutex_);
  workers_[worker].dismissed = true;
  changed_.notify_all();
}

// A lane takes at least as long as the one that the worker has now.
double LaneQueue::seconds_of(const Worker& worker, Time now) const {
  const double before = worker.measured.value_or(worker.expected * slowness_);
  return worker.since ? std::max(before, Seconds(now - *worker.since).count()) : before;
}

// Gives the lanes that wait, one after the other, to who would have it ready first: whether one comes to this worker.
bool LaneQueue::should_take(size_t worker) const {
  const Time now = now_();
  std::vector<double> free_at;  // seconds from now
  for (const Worker& other : workers_) {
    free_at.push_back(other.since ? seconds_of(other, now) - Seconds(now - *other.since).count() : 0);
  }
  for (size_t lane = 0; lane < waiting_.size(); ++lane) {
    size_t first = worker;
    double ready = free_at[worker] + seconds_of(workers_[worker], now);
    for (size_t other = 0; other < workers_.size(); ++other) {
      const double seconds = seconds_of(workers_[other], now);
      if (workers_[other].dismissed || seconds <= 0 || free_at[other] + seconds >= ready) continue;
      first = other, ready = free_at[other] + seconds;
    }
    if (first == worker) return true;
    free_at[first] = ready;
  }
  return false;
}

std::optional<uint64_t> LaneQueue::take(size_t worker) {
  std::unique_lock lock(mutex_);
  while (waiting_.empty() || !should_take(worker)) {
    if (waiting_.empty() && taken_ == 0) return std::nullopt;
    if (waiting_.empty()) {
      changed_.wait(lock);
    } else {
      changed_.wait_for(lock, look_again);
    }
  }
  const uint64_t lane = *waiting_.begin();
  waiting_.erase(waiting_.begin());
  workers_[worker].since = now_();
  ++taken_;
  return lane;
}

void LaneQueue::end(size_t worker) {
  workers_[worker].since.reset();
  --taken_;
  changed_.notify_all();
}

void LaneQueue::done(size_t worker) {
  const std::lock_guard lock(mutex_);
  Worker& own = workers_[worker];
  own.measured = Seconds(now_() - *own.since).count();
  if (own.expected > 0) slowness_ = *own.measured / own.expected;
  end(worker);
}

void LaneQueue::give_back(size_t worker, uint64_t lane) {
  const std::lock_guard lock(mutex_);
  if (lane < failed_) waiting_.insert(lane);
  end(worker);
}

void LaneQueue::fail(size_t worker, uint64_t lane, std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  if (lane < failed_) {
    failed_ = lane;
    error_ = std::move(error);
    waiting_.erase(waiting_.lower_bound(lane), waiting_.end());
  }
  end(worker);
}

void LaneQueue::lost(uint64_t lane) {
  const std::lock_guard lock(mutex_);
  if (lane < failed_) waiting_.insert(lane);
  changed_.notify_all();
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
