// A token bucket for each of many askers.
#pragma once

#include <algorithm>
#include <chrono>
#include <mutex>
#include <string>
#include <unordered_map>

namespace pool {

// Thread-safe. Memory is bounded by the number of askers of the last burst/rate seconds.
class RateLimiter {
 public:
  using Time = std::chrono::steady_clock::time_point;

  RateLimiter(double per_second, double burst) : per_second_(per_second), burst_(burst) {}

  // Whether `who` may go on at this time.
  bool take(const std::string& who, Time now = std::chrono::steady_clock::now()) {
    const std::lock_guard lock(mutex_);
    if (buckets_.size() >= sweep_at_) sweep(now);
    Bucket& bucket = buckets_.try_emplace(who, Bucket{burst_, now}).first->second;
    bucket.tokens = level(bucket, now);
    bucket.time = now;
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }

 private:
  struct Bucket {
    double tokens;
    Time time;
  };

  double level(const Bucket& bucket, Time now) const {
    return std::min(burst_, bucket.tokens + per_second_ * std::chrono::duration<double>(now - bucket.time).count());
  }
  // A full bucket says no more than no bucket.
  void sweep(Time now) {
    std::erase_if(buckets_, [&](const auto& entry) { return level(entry.second, now) >= burst_; });
    sweep_at_ = std::max<size_t>(1024, 2 * buckets_.size());
  }

  const double per_second_, burst_;
  std::mutex mutex_;
  size_t sweep_at_ = 1024;
  std::unordered_map<std::string, Bucket> buckets_;
};

}  // namespace pool
