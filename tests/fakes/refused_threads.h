// A system that gives no threads.
#pragma once

#include <pthread.h>

#include <stdexcept>

namespace fakes {

// While it lives: nobody has the memory for the stacks that it asks for.
class RefusedThreads {
 public:
  RefusedThreads() {
    if (pthread_getattr_default_np(&before_) != 0) throw std::runtime_error("no attributes of threads");
    pthread_attr_t refused;
    pthread_attr_init(&refused);
    if (pthread_attr_setstacksize(&refused, size_t{1} << 50) != 0 || pthread_setattr_default_np(&refused) != 0)
      throw std::runtime_error("no stacks of threads of this size");
    pthread_attr_destroy(&refused);
  }
  RefusedThreads(const RefusedThreads&) = delete;
  RefusedThreads& operator=(const RefusedThreads&) = delete;
  ~RefusedThreads() { pthread_setattr_default_np(&before_); }

 private:
  pthread_attr_t before_;
};

}  // namespace fakes
