#include <sstream>
#include <thread>

#include "fake_cuda_state.h"

namespace fakes {
namespace {

std::atomic<bool> for_ever = false;

void sleep_for_ever() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

// As the real driver's end may, for a lock that the call has.
__attribute__((destructor)) void end_of_library() {
  if (for_ever) sleep_for_ever();
}

}  // namespace

void Stuck::read(const std::string& told) {
  std::istringstream fields(told);
  std::string on, calls;
  call.clear();
  if (!std::getline(fields, call, ',') || !std::getline(fields, on, ',') || !std::getline(fields, calls)) return;
  ordinal = std::stoi(on);
  after = std::stoi(calls);
}

bool Stuck::meets(const char* called, int on) {
  return call == called && (ordinal == -1 || ordinal == on) && after-- <= 0;
}

void be_stuck() {
  if (const std::function<void()> until = state().seen.stuck) return until();
  for_ever = true;
  sleep_for_ever();
}

}  // namespace fakes
