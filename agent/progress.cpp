#include "progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace agent {

Progress::Progress(std::string label)
    : label_(std::move(label)), terminal_(isatty(STDERR_FILENO) == 1), begin_(Clock::now()), last_(begin_) {}

Progress::~Progress() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

void Progress::show(double share) {
  Clock::time_point now = Clock::now();
  if (!terminal_ || now - last_ < std::chrono::milliseconds(200)) return;
  last_ = now;
  drawn_ = true;
  constexpr int width = 30;
  int full = std::clamp(static_cast<int>(share * width), 0, width);
  double elapsed = std::chrono::duration<double>(now - begin_).count();
  std::fprintf(stderr, "\r%s [%s%s] %3.0f%%  %.0f s\033[K", label_.c_str(),
               std::string(static_cast<size_t>(full), '#').c_str(),
               std::string(static_cast<size_t>(width - full), '.').c_str(), share * 100, elapsed);
  std::fflush(stderr);
}

void Progress::show_elapsed(double estimated_seconds) {
  double elapsed = std::chrono::duration<double>(Clock::now() - begin_).count();
  show(std::min(0.99, elapsed / std::max(estimated_seconds, 1e-9)));
}

}  // namespace agent
