#include "cuda_driver/watched_thread.h"

#include <cstdio>

#include "kernels/cuda_cards.h"

namespace kernels {
namespace cuda {

std::atomic<bool> left_threads_behind = false;

std::string seconds_text(std::chrono::milliseconds time) {
  char text[32];
  std::snprintf(text, sizeof text, "%g s", std::chrono::duration<double>(time).count());
  return text;
}

WatchedThread::~WatchedThread() {
  try {
    end();
  } catch (const std::exception&) {
    // It was left behind, or told what has failed to whom it concerned.
  }
  if (thread_.joinable()) thread_.join();
}

void WatchedThread::end() {
  if (ended_.valid() && !is_left()) get(std::move(ended_));
}

void WatchedThread::leave(std::chrono::milliseconds limit) {
  stuck_ =
      where_ + ": " + watch_->call.load() + " has not returned for " + seconds_text(limit) + "; restart the machine";
  left_threads_behind = true;
  watch_->left_behind = true;
  thread_.detach();
  throw CudaError(stuck_);
}

void WatchedThread::require_not_left() const {
  if (!stuck_.empty()) throw CudaError(stuck_);
}

}  // namespace cuda

bool threads_left_behind() { return cuda::left_threads_behind; }

}  // namespace kernels
