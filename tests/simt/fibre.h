// A stack of its own on which jobs run until they hand control back.
#pragma once

#include <memory>

namespace simt {

// A fibre is used by one thread. Jobs must not throw. A fibre that is destroyed while its job waits in leave() gives up
// what lies on its stack; no destructors run.
class Fibre {
 public:
  Fibre();
  ~Fibre();
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;

  // Runs job(argument) until it ends or calls leave(); true where it has ended. The fibre must be idle.
  bool start(void (*job)(void*), void* argument);
  // Goes on after leave(); as start().
  bool resume();
  // Called by the job: goes back to whoever started or resumed it.
  void leave();

  // For the thread sanitizer, to which each fibre is a thread: what this fibre has done so far comes before what others
  // do that acquire the tag from now on. Switching fibres orders nothing. Nothing happens without the sanitizer.
  void release(void* tag);
  void acquire(void* tag);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The same for who is on no fibre.
void release(void* tag);
void acquire(void* tag);

// For the thread sanitizer: what has been done to [begin, end) so far races with nothing that comes.
void forget_accesses(const void* begin, const void* end);

}  // namespace simt
