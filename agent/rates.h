// Tokens a second over the windows that miners know: 10 s, 60 s, 15 min.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <utility>

namespace agent {

class Rates {
 public:
  // now: monotonic seconds, never going back.
  void add(double now, uint64_t tokens);
  // Over the window, or over the time since the first token where that is shorter; 0 without tokens.
  double per_second(double now, double window) const;

 private:
  double first_ = -1;
  std::deque<std::pair<double, uint64_t>> seconds_;  // (whole second, tokens), at most 15 minutes
};

std::string human_rate(double per_second);  // "12.3k"

}  // namespace agent
