// Buffers planned once: the same code first counts bytes (no base), then hands out addresses.
#pragma once

#include <cstddef>

#include "kernels/ops.h"

namespace kernels {

class Arena {
 public:
  static constexpr size_t alignment = 256;  // NVIDIA's libraries want that of a workspace

  explicit Arena(std::byte* base = nullptr) : base_(base) {}

  // count elements, aligned; null while counting. The addresses are an Ops's, perhaps not the host's.
  template <class T>
  T* take(size_t count) {
    T* result = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (count * sizeof(T) + alignment - 1) / alignment * alignment;
    return result;
  }

  FloatsOrHalves take_floats_or_halves(size_t count, bool halves) {
    return halves ? FloatsOrHalves(take<uint16_t>(count)) : FloatsOrHalves(take<float>(count));
  }

  size_t used() const { return used_; }

 private:
  std::byte* base_;
  size_t used_ = 0;
};

// The memory behind an arena: a block of what an Ops computes in, freed before it.
class ArenaMemory {
 public:
  ArenaMemory(Ops& ops, size_t bytes) : ops_(ops), base_(static_cast<std::byte*>(ops.allocate(bytes))) {}
  ArenaMemory(const ArenaMemory&) = delete;
  ArenaMemory& operator=(const ArenaMemory&) = delete;
  ~ArenaMemory() { ops_.free(base_); }

  std::byte* base() const { return base_; }

 private:
  Ops& ops_;
  std::byte* const base_;
};

}  // namespace kernels
