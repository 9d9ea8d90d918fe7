#include "thread_faults.h"

#include <dlfcn.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <system_error>
#include <thread>
#include <utility>

namespace fakes {
namespace {

std::atomic<int> left = INT_MAX;  // that are given

}  // namespace

ThreadFaults::ThreadFaults(int n) { left = n - 1; }
ThreadFaults::~ThreadFaults() { left = INT_MAX; }
bool ThreadFaults::happened() const { return left < 0; }

}  // namespace fakes

void std::thread::_M_start_thread(_State_ptr state, void (*depend)()) {
  if (fakes::left != INT_MAX && --fakes::left < 0) {
    throw std::system_error(EAGAIN, std::generic_category(), "pthread_create");
  }
  using Start = void(std::thread*, _State_ptr, void (*)());
  static void* const next =
      dlsym(RTLD_NEXT, "_ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE");
  if (next == nullptr) std::abort();
  reinterpret_cast<Start*>(next)(this, std::move(state), depend);
}
