// Buffers planned once: the same code first counts bytes (no base), then hands out addresses.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

#include "kernels/huge_pages.h"

namespace kernels {

class Arena {
 public:
  static constexpr size_t alignment = 64;

  explicit Arena(std::byte* base = nullptr) : base_(base) {}

  // count elements, aligned; null while counting.
  template <class T>
  T* take(size_t count) {
    T* result = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (count * sizeof(T) + alignment - 1) / alignment * alignment;
    return result;
  }

  size_t used() const { return used_; }

 private:
  std::byte* base_;
  size_t used_ = 0;
};

struct ArenaFree {
  void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{Arena::alignment}); }
};
using ArenaMemory = std::unique_ptr<std::byte, ArenaFree>;

inline ArenaMemory allocate_arena(size_t bytes) {
  ArenaMemory memory(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{Arena::alignment})));
  advise_huge_pages(memory.get(), bytes);
  return memory;
}

}  // namespace kernels
