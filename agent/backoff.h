// Exponential waiting with jitter: first, doubled each time up to 5 minutes, of which a random half to whole is waited.
#pragma once

#include <algorithm>
#include <random>

namespace agent {

class Backoff {
 public:
  static constexpr double longest = 300;
  Backoff(double first_seconds, uint64_t seed) : first_(first_seconds), next_(first_seconds), random_(seed) {}

  double next() {
    const double whole = next_;
    next_ = std::min(2 * next_, longest);
    return whole * std::uniform_real_distribution<double>(0.5, 1.0)(random_);
  }
  void reset() { next_ = first_; }

 private:
  const double first_;
  double next_;
  std::mt19937_64 random_;
};

}  // namespace agent
