// A clock that only moves when someone sleeps, or by `tick` whenever someone looks. Threads may look meanwhile.
#pragma once

#include <atomic>
#include <functional>
#include <vector>

#include "clock.h"

namespace fakes {

class ManualClock : public agent::Clock {
 public:
  double monotonic() const override {
    if (tick != 0) now += tick;
    return now;
  }
  int64_t unix_time() const override { return epoch + static_cast<int64_t>(now - 1000); }
  void sleep(double seconds) override {
    sleeps.push_back(seconds);
    now += seconds;
    if (on_sleep) on_sleep();
  }

  mutable std::atomic<double> now = 1000;
  double tick = 0;
  int64_t epoch = 1'760'000'000;
  std::vector<double> sleeps;
  std::function<void()> on_sleep;
};

}  // namespace fakes
