#include "rates.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace agent {

constexpr double longest_window = 900;

void Rates::add(double now, uint64_t tokens) {
  if (first_ < 0) first_ = now;
  const double second = std::floor(now);
  if (seconds_.empty() || seconds_.back().first < second) seconds_.emplace_back(second, 0);
  seconds_.back().second += tokens;
  while (seconds_.front().first < now - longest_window) seconds_.pop_front();
}

double Rates::per_second(double now, double window) const {
  if (first_ < 0) return 0;
  uint64_t tokens = 0;
  for (const auto& [second, count] : seconds_) {
    if (second >= now - window) tokens += count;
  }
  return static_cast<double>(tokens) / std::max(1.0, std::min(window, now - first_));
}

std::string human_rate(double per_second) {
  char text[32];
  if (per_second >= 1e6) {
    std::snprintf(text, sizeof text, "%.2fM", per_second / 1e6);
  } else if (per_second >= 1e4) {
    std::snprintf(text, sizeof text, "%.1fk", per_second / 1e3);
  } else {
    std::snprintf(text, sizeof text, "%.0f", per_second);
  }
  return text;
}

}  // namespace agent
