// A fixed set of threads that run one task at a time, each with its own number. Between tasks they wait busily for a
// moment, as the next one mostly follows at once; then they sleep.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

namespace kernels {

// Cores that this process may use, at least 1.
size_t available_cores();

// Used by one thread at a time. The task must not throw and is given thread numbers 0 … size() - 1, of which the
// caller runs 0. Workers compute in the FloatEnvironment of docs/numerics.md.
class ThreadPool {
 public:
  // Throws std::runtime_error, which says why, where the system does not give that many threads.
  explicit ThreadPool(size_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  size_t size() const { return workers_.size() + 1; }

  // Runs task(thread) on the first `threads` threads and returns when all are done.
  template <class Task>
  void run(size_t threads, const Task& task) {
    call_ = [](const void* t, size_t thread) { (*static_cast<const Task*>(t))(thread); };
    task_ = &task;
    start_and_join(threads);
  }

 private:
  void start_and_join(size_t threads);
  void work(size_t thread);
  void end();
  void await_change(const std::atomic<uint32_t>& value, uint32_t old) const;

  const bool waits_busily_;  // each thread can have a core of its own
  void (*call_)(const void*, size_t) = nullptr;
  const void* task_ = nullptr;
  size_t threads_ = 0;  // that take part in the task
  bool stop_ = false;
  std::atomic<uint32_t> generation_ = 0;  // counts tasks; a change wakes the workers
  std::atomic<uint32_t> busy_ = 0;        // workers that have not finished the task
  std::vector<std::jthread> workers_;
};

}  // namespace kernels
