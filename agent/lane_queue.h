// The lanes of a unit on their way to the workers that compute them. Who has time takes the next one, so faster cards
// compute more; but not where all lanes that wait would be ready sooner if it left them to others, as a last lane that
// a slow card would be long about. A lane that a card gave back, or lost, is taken by another.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

namespace agent {

// Used by any thread.
class LaneQueue {
 public:
  using Time = std::chrono::steady_clock::time_point;

  explicit LaneQueue(uint64_t lanes, std::function<Time()> now = std::chrono::steady_clock::now);

  // A worker's number: it counts for the others from now on, until it is dismissed. seconds: that a lane should take
  // it, which need be right only beside those of others; 0: not known, and then no one reckons with it.
  size_t enlist(double seconds);
  void dismiss(size_t worker);

  // The lowest lane that nobody has. Waits while another should take it, or others compute and may yet give theirs
  // back; none when nothing is left to take. Who has a lane ends it by one of the following.
  std::optional<uint64_t> take(size_t worker);
  void done(size_t worker);
  void give_back(size_t worker, uint64_t lane);
  // The unit cannot be completed. Lower lanes are computed all the same: the unit's failure is that of its lowest lane.
  void fail(size_t worker, uint64_t lane, std::exception_ptr error);
  // One that was done has to be computed again.
  void lost(uint64_t lane);

  // When all workers have ended: whether lanes are left that nobody took; the failure, if there was one.
  bool waiting() const;
  void rethrow() const;

 private:
  struct Worker {
    double expected = 0;             // seconds of a lane
    std::optional<double> measured;  // of the last one
    std::optional<Time> since;       // while it has one
    bool dismissed = false;
  };

  double seconds_of(const Worker& worker, Time now) const;
  bool should_take(size_t worker) const;
  void end(size_t worker);

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  const std::function<Time()> now_;
  std::vector<Worker> workers_;
  double slowness_ = 1;         // measured against expected, of the last lane that was done
  std::set<uint64_t> waiting_;  // none that is above a failed one
  uint64_t taken_ = 0;          // how many
  uint64_t failed_;             // the lowest, else their number
  std::exception_ptr error_;
};

}  // namespace agent
