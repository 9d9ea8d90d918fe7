#include "cpu/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <stdexcept>
#include <string>

namespace kernels {
namespace {

TEST(ThreadPool, EachThreadHasItsNumber) {
  ThreadPool pool(5);
  std::atomic<unsigned> seen = 0;
  pool.run(5, [&](size_t thread) { seen += 1u << thread; });
  EXPECT_EQ(seen, 31u);
  pool.run(2, [&](size_t thread) { seen -= 1u << thread; });
  EXPECT_EQ(seen, 28u);
}

// Sanitizers take terabytes of addresses, and other processors are emulated, with memory of the emulator's own.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

// Address space for a few stacks only.
void refuse_many_threads() {
  size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const rlim_t limit = pages * static_cast<size_t>(sysconf(_SC_PAGESIZE)) + (100u << 20);
  const rlimit most{limit, limit};
  setrlimit(RLIMIT_AS, &most);
  alarm(30);  // a pool whose threads are not ended waits for them for ever
  try {
    ThreadPool pool(1000);
  } catch (const std::runtime_error& error) {
    const std::string what = error.what();
    const bool clear = what.find("of 1000 threads: Resource temporarily unavailable") != std::string::npos;
    _exit(clear ? 0 : 1);
  }
  _exit(2);
}

TEST(ThreadPool, ASystemThatGivesFewerThreadsIsNamed) {
  EXPECT_EXIT(refuse_many_threads(), testing::ExitedWithCode(0), "");
}

#endif

}  // namespace
}  // namespace kernels
