#include "signals.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <system_error>

namespace agent {
namespace {

sigset_t ending_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

Signals::Signals(Stop& stop) {
  const sigset_t set = ending_signals();
  if (int error = pthread_sigmask(SIG_BLOCK, &set, nullptr)) throw std::system_error(error, std::generic_category());
  signal(SIGPIPE, SIG_IGN);
  thread_ = std::thread([this, &stop, set] {
    for (int taken = 0; !over_;) {
      int which = 0;
      if (sigwait(&set, &which) != 0 || over_) return;
      if (++taken == 2) _exit(128 + which);
      stop.request();
    }
  });
}

Signals::~Signals() {
  over_ = true;
  // Only wakes it: the signal is blocked and ends nobody.
  pthread_kill(thread_.native_handle(), SIGTERM);  // NOLINT(bugprone-bad-signal-to-kill-thread)
  thread_.join();
}

}  // namespace agent
