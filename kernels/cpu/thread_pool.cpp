#include "cpu/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>

#include "cpu/float_environment.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace kernels {
namespace {

// One turn of a busy wait: leaves a hyper-thread beside this one the core's units.
void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

size_t available_cores() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<size_t>(std::max(1, CPU_COUNT(&set)));
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

ThreadPool::ThreadPool(size_t threads) : waits_busily_(threads <= available_cores()) {
  try {
    workers_.reserve(threads - 1);
    for (size_t i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (const std::system_error& error) {
    end();
    throw std::system_error(error.code(),
                            "only " + std::to_string(size()) + " of " + std::to_string(threads) + " threads");
  } catch (...) {
    end();
    throw;
  }
}

ThreadPool::~ThreadPool() { end(); }

void ThreadPool::end() {
  stop_ = true;
  ++generation_;
  generation_.notify_all();
}

void ThreadPool::await_change(const std::atomic<uint32_t>& value, uint32_t old) const {
  using Clock = std::chrono::steady_clock;
  constexpr auto patience = std::chrono::microseconds(50);  // a sleeper takes about as long to come back
  const auto end = Clock::now() + patience;
  while (waits_busily_ && Clock::now() < end) {
    for (int turn = 0; turn < 16; ++turn) {
      if (value != old) return;
      relax();
    }
  }
  value.wait(old);
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
    for (uint32_t left = busy_; left != 0; left = busy_) await_change(busy_, left);
  }
}

void ThreadPool::work(size_t thread) {
  const FloatEnvironment environment;
  for (uint32_t seen = 0;;) {
    await_change(generation_, seen);
    seen = generation_;
    if (stop_) return;
    if (thread < threads_) call_(task_, thread);
    if (--busy_ == 0) busy_.notify_one();
  }
}

}  // namespace kernels
