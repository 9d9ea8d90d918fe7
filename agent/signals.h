// SIGTERM and SIGINT: the first asks to stop, the second ends the process at once.
#pragma once

#include <atomic>
#include <thread>

#include "clock.h"

namespace agent {

// Construct before any other thread: the signals are blocked in all threads that follow and taken by one of their own.
class Signals {
 public:
  explicit Signals(Stop& stop);
  ~Signals();

 private:
  std::atomic<bool> over_ = false;
  std::thread thread_;
};

}  // namespace agent
