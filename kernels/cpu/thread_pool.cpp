#include "cpu/thread_pool.h"

#include <algorithm>

#include "cpu/float_environment.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace kernels {

size_t available_cores() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<size_t>(std::max(1, CPU_COUNT(&set)));
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

ThreadPool::ThreadPool(size_t threads) {
  workers_.reserve(threads - 1);
  for (size_t i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  ++generation_;
  generation_.notify_all();
}

void ThreadPool::start_and_join(size_t threads) {
  threads_ = std::min(threads, size());
  if (threads_ > 1) {
    busy_ = static_cast<uint32_t>(workers_.size());
    ++generation_;
    generation_.notify_all();
  }
  if (threads_ > 0) call_(task_, 0);
  if (threads_ > 1) {
    for (uint32_t left = busy_; left != 0; left = busy_) busy_.wait(left);
  }
}

void ThreadPool::work(size_t thread) {
  const FloatEnvironment environment;
  for (uint32_t seen = 0;;) {
    generation_.wait(seen);
    seen = generation_;
    if (stop_) return;
    if (thread < threads_) call_(task_, thread);
    if (--busy_ == 0) busy_.notify_one();
  }
}

}  // namespace kernels
