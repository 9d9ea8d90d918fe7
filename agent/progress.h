// A progress line on stderr for long work; silent where stderr is not a terminal.
#pragma once

#include <chrono>
#include <string>

namespace agent {

class Progress {
 public:
  explicit Progress(std::string label);
  ~Progress();  // wipes the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Draws at most five times a second. share: 0 … 1.
  void show(double share);
  // For work whose steps cannot be counted: a share of the estimated seconds since construction, below 1.
  void show_elapsed(double estimated_seconds);

 private:
  using Clock = std::chrono::steady_clock;
  const std::string label_;
  const bool terminal_;
  bool drawn_ = false;
  const Clock::time_point begin_;
  Clock::time_point last_;
};

}  // namespace agent
