// A system that gives this very process no thread: thread_faults.cpp, linked into a test, stands before the call of
// libstdc++ that starts one.
#pragma once

namespace fakes {

// While it lives, from the n-th thread on that is asked for, counted from 1, all are refused. One at a time.
class ThreadFaults {
 public:
  explicit ThreadFaults(int n);
  ThreadFaults(const ThreadFaults&) = delete;
  ThreadFaults& operator=(const ThreadFaults&) = delete;
  ~ThreadFaults();

  bool happened() const;  // some thread was refused
};

}  // namespace fakes
