// Calls of the driver that may never return, not even where they wait for nothing: a card has fallen off the bus, or
// the driver waits for itself. So a thread of their own makes them, and whoever waits for it looks at its watch and
// leaves it behind with all that it may still touch, which is its own.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

namespace kernels::cuda {

std::string seconds_text(std::chrono::milliseconds time);  // "0.5 s"

// While it starts, a driver wakes all cards, one after the other, and a card's may compile its code: so many times the
// limit for each call.
constexpr int start_limits = 5;

// Whether a thread was left behind in this process.
extern std::atomic<bool> left_threads_behind;

// What a thread calls, for those who wait for it.
struct CallWatch {
  std::atomic<const char*> call = nullptr;  // the newest
  std::atomic<uint64_t> turns = 0;          // calls that began and that ended: odd while one is going on
  std::atomic<bool> left_behind = false;    // nobody waits for the thread any more
};
inline thread_local CallWatch* watch_of_this_thread = nullptr;

// One call of this thread, on its watch, if it has one.
class WatchedCall {
 public:
  explicit WatchedCall(const char* name) : watch_(watch_of_this_thread) {
    if (watch_ == nullptr) return;
    watch_->call = name;
    ++watch_->turns;
  }
  WatchedCall(const WatchedCall&) = delete;
  WatchedCall& operator=(const WatchedCall&) = delete;
  ~WatchedCall() {
    if (watch_ != nullptr) ++watch_->turns;
  }

 private:
  CallWatch* const watch_;
};

// A thread whose calls of the driver may never return. Used by one other thread at a time.
class WatchedThread {
 public:
  // Runs body(watch). It owns what it uses; when the watch says that it was left behind, it ends soon. `where` names
  // the device, a call may take `limit`.
  template <typename Body>
  WatchedThread(std::string where, std::chrono::milliseconds limit, Body body)
      : where_(std::move(where)), limit_(limit) {
    std::packaged_task<void()> task([watch = watch_, body = std::move(body)]() mutable {
      watch_of_this_thread = watch.get();
      body(std::as_const(*watch));
    });
    ended_ = task.get_future();
    thread_ = std::thread(std::move(task));
  }
  WatchedThread(const WatchedThread&) = delete;
  WatchedThread& operator=(const WatchedThread&) = delete;
  // Waits for its end, unless it is left behind.
  ~WatchedThread();
  // The same. Throws what `body` throws, and CudaError where a call does not return in time.
  void end();

  // What the thread gives. Throws what it throws, and CudaError where a call of it does not return in time; from then
  // on always.
  template <typename Value>
  Value get(std::future<Value> value) {
    return get(std::move(value), limit_);
  }
  template <typename Value>
  Value get(std::future<Value> value, std::chrono::milliseconds limit) {
    require_not_left();
    const auto look = std::max<std::chrono::milliseconds>(limit / looks, std::chrono::milliseconds(10));
    uint64_t turns = 0;
    for (int same = 0; value.wait_for(look) != std::future_status::ready;) {
      const uint64_t now = watch_->turns;
      same = now == std::exchange(turns, now) && now % 2 == 1 ? same + 1 : 0;
      if (same == looks) leave(limit);
    }
    return value.get();
  }
  // Throws the same where a call has not returned.
  void require_not_left() const;
  bool is_left() const { return !stuck_.empty(); }

 private:
  static constexpr int looks = 20;  // not a time: while the process stands still, nobody's call takes long
  [[noreturn]] void leave(std::chrono::milliseconds limit);

  const std::string where_;
  const std::chrono::milliseconds limit_;
  const std::shared_ptr<CallWatch> watch_ = std::make_shared<CallWatch>();
  std::string stuck_;  // which call has not returned
  std::future<void> ended_;
  std::thread thread_;
};

// What `body` returns or throws, on a thread of its own; likewise.
template <typename Body>
auto in_time(const std::string& where, std::chrono::milliseconds limit, Body body) {
  std::packaged_task<std::invoke_result_t<Body>()> task(std::move(body));
  auto result = task.get_future();
  WatchedThread thread(where, limit, [task = std::move(task)](const CallWatch&) mutable { task(); });
  return thread.get(std::move(result));
}

}  // namespace kernels::cuda
