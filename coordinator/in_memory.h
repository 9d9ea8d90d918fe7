// What a connection holds in memory, counted.
#pragma once

#include <cstddef>

namespace pool {

// Adds its bytes to a sum while it lives. The sum must outlive it; not thread-safe.
class InMemory {
 public:
  InMemory(size_t& sum, size_t bytes) : sum_(sum), bytes_(bytes) { sum_ += bytes_; }
  ~InMemory() { sum_ -= bytes_; }
  InMemory(const InMemory&) = delete;
  InMemory& operator=(const InMemory&) = delete;

 private:
  size_t& sum_;
  const size_t bytes_;
};

}  // namespace pool
