// The memory of a card that is none: pages of the host that are closed to it. A program that touches them itself, where
// it should have copied, ends with a fault.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>

namespace fakes {

class DeviceMemory {
 public:
  explicit DeviceMemory(size_t bytes) : bytes_(bytes) {}

  size_t bytes() const { return bytes_; }
  size_t free_bytes() const { return bytes_ - used_; }

  // Whole pages with a closed one behind, filled with NaN, of a large block the beginning; null where the card has too
  // little.
  char* allocate(size_t bytes) {
    const std::lock_guard lock(*mutex_);
    if (bytes > free_bytes()) return nullptr;
    void* memory = mmap(nullptr, pages(bytes) + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    madvise(memory, pages(bytes), MADV_HUGEPAGE);  // which open and close in no time
    char* first = blocks_.emplace(static_cast<char*>(memory), bytes).first->first;
    used_ += bytes;
    const Opened opened(*this);
    std::memset(first, 0xff, std::min(bytes, size_t{256} << 20));
    return first;
  }

  // False for what is no block.
  bool free(char* memory) {
    const std::lock_guard lock(*mutex_);
    const auto block = blocks_.find(memory);
    if (block == blocks_.end()) return false;
    used_ -= block->second;
    munmap(memory, pages(block->second) + page);
    blocks_.erase(block);
    return true;
  }

  // Whether all bytes lie in one block.
  bool holds(const char* address, size_t bytes) const {
    auto after = blocks_.upper_bound(const_cast<char*>(address));
    if (after == blocks_.begin()) return false;
    const auto& [first, size] = *--after;
    return address + bytes <= first + size;
  }

  // While it lives, the card is at work and its memory open.
  class Opened {
   public:
    explicit Opened(DeviceMemory& memory) : memory_(memory) { memory_.protect(PROT_READ | PROT_WRITE); }
    ~Opened() { memory_.protect(PROT_NONE); }
    Opened(const Opened&) = delete;
    Opened& operator=(const Opened&) = delete;

   private:
    DeviceMemory& memory_;
  };

 private:
  static constexpr size_t page = 4096;
  static size_t pages(size_t bytes) { return (bytes + page - 1) / page * page; }

  void protect(int access) {
    for (const auto& [first, bytes] : blocks_) {
      if (mprotect(first, pages(bytes), access) != 0) std::abort();
    }
  }

  // For calls that were stuck and come back at once.
  std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();
  const size_t bytes_;
  size_t used_ = 0;
  std::map<char*, size_t> blocks_;
};

}  // namespace fakes
