// The pool's own work beside its requests: one thread that closes rounds, looks at the pool once a second for the page,
// the metrics and the log, and writes the traffic counters.
#pragma once

#include <chrono>
#include <condition_variable>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "pool.h"

namespace pool {

constexpr int64_t active_rig_seconds = 120;  // a rig heard of since then is there

// The pool as it was at `time`.
struct Snapshot {
  PoolStatus status;
  int64_t time = 0;     // Unix seconds
  std::string failure;  // why the pool's own work fails (disk full, …); empty while it works
};

// Thread-safe.
class Background {
 public:
  // Takes the first snapshot before it returns: throws what the store throws.
  Background(Pool& pool, Clock& clock);
  ~Background();

  // There may be a round to close.
  void wake();
  std::shared_ptr<const Snapshot> snapshot() const;
  void count_traffic(uint64_t bytes_up, uint64_t bytes_down);
  void count_refusal(const std::string& error_name);

  // Ends the thread after what it is doing. False: that takes longer than the limit, and goes on.
  bool stop(std::chrono::milliseconds limit);

 private:
  void loop();
  bool wait();
  void work();
  void flush_counters();
  void look();
  void note_failure(const std::string& reason);

  Pool& pool_;
  Clock& clock_;
  mutable std::mutex mutex_;
  std::condition_variable wake_up_;
  bool awake_ = false, stopping_ = false;
  std::shared_ptr<const Snapshot> snapshot_;
  std::chrono::steady_clock::time_point next_look_{};  // of the thread
  uint64_t bytes_up_ = 0, bytes_down_ = 0;
  std::map<std::string, uint64_t> refusals_;
  std::promise<void> ended_;
  std::future<void> end_ = ended_.get_future();
  std::thread thread_;
};

}  // namespace pool
