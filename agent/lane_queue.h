// The lanes of a unit on their way to the threads that compute them: each takes the next one when it has time, so
// faster cards compute more. A lane that a card gave back, or lost, is taken by another.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <set>

namespace agent {

// Used by any thread.
class LaneQueue {
 public:
  explicit LaneQueue(uint64_t lanes);

  // The lowest lane that nobody has. Waits while others compute and may yet give theirs back; none when nothing is left
  // to take. Who has a lane ends it by one of the following.
  std::optional<uint64_t> take();
  void done();
  void give_back(uint64_t lane);
  // One that was done has to be computed again.
  void lost(uint64_t lane);
  // The unit cannot be completed. Lower lanes are computed all the same: the unit's failure is that of its lowest lane.
  void fail(uint64_t lane, std::exception_ptr error);

  // When all threads have ended: whether lanes are left that nobody took; the failure, if there was one.
  bool waiting() const;
  void rethrow() const;

 private:
  void end();

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::set<uint64_t> waiting_;  // none that is above a failed one
  uint64_t taken_ = 0;          // how many
  uint64_t failed_;             // the lowest, else their number
  std::exception_ptr error_;
};

}  // namespace agent
