// What fails where nobody waits for it: something is only queued, or given back.
#pragma once

#include <exception>
#include <utility>

namespace kernels::cuda {

// The first of it, for the next who waits.
class KeptFailure {
 public:
  template <typename Body>
  void attempt(const Body& body) noexcept {
    try {
      body();
    } catch (...) {
      if (!failure_) failure_ = std::current_exception();
    }
  }
  bool is_there() const { return failure_ != nullptr; }
  void rethrow() {
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
  }
  // Whether there was one.
  bool drop() { return std::exchange(failure_, nullptr) != nullptr; }

 private:
  std::exception_ptr failure_;
};

}  // namespace kernels::cuda
