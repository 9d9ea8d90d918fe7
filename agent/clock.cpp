#include "clock.h"

#include <chrono>

namespace agent {

void Stop::request() {
  std::lock_guard lock(mutex_);
  requested_ = true;
  changed_.notify_all();
}

bool Stop::requested() const {
  std::lock_guard lock(mutex_);
  return requested_;
}

void Stop::wait(double seconds) const {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return requested_ || woken_; });
  woken_ = false;
}

void Stop::wake() const {
  std::lock_guard lock(mutex_);
  woken_ = true;
  changed_.notify_all();
}

double SystemClock::monotonic() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int64_t SystemClock::unix_time() const {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void SystemClock::sleep(double seconds) { stop_.wait(seconds); }

}  // namespace agent
