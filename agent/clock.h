// Time and the wish to stop. Timers are monotonic; the wall clock only dates signatures.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace agent {

// Set once, from any thread; every wait ends with it.
class Stop {
 public:
  void request();
  bool requested() const;
  // Waits at most `seconds`; shorter when a stop is requested, or has been woken.
  void wait(double seconds) const;
  // Ends the wait that is on, or else the next one. From any thread.
  void wake() const;

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool requested_ = false;
  mutable bool woken_ = false;
};

// Replaced in tests.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual double monotonic() const = 0;    // seconds
  virtual int64_t unix_time() const = 0;   // seconds
  virtual void sleep(double seconds) = 0;  // see Stop::wait()
};

class SystemClock : public Clock {
 public:
  explicit SystemClock(const Stop& stop) : stop_(stop) {}
  double monotonic() const override;
  int64_t unix_time() const override;
  void sleep(double seconds) override;

 private:
  const Stop& stop_;
};

}  // namespace agent
