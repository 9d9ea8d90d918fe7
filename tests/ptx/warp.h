// A warp of the PTX executor: 32 lanes with registers of their own, which run the same instruction where they stand at
// the same one.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "program.h"

namespace ptx {

constexpr unsigned lanes_of_warp = 32;
constexpr uint32_t all_lanes = 0xffffffff;

// One register of every lane. A 16-bit number or a predicate is a word; 64 bits are two.
struct Register {
  uint32_t low[lanes_of_warp], high[lanes_of_warp];

  template <class T>
  T get(unsigned lane) const {
    if constexpr (sizeof(T) == 8) {
      return static_cast<T>(uint64_t{high[lane]} << 32 | low[lane]);
    } else if constexpr (std::is_same_v<T, float>) {
      return std::bit_cast<float>(low[lane]);
    } else {
      return static_cast<T>(low[lane]);
    }
  }
  template <class T>
  void set(unsigned lane, T value) {
    if constexpr (std::is_same_v<T, float>) {
      low[lane] = std::bit_cast<uint32_t>(value);
    } else if constexpr (sizeof(T) == 8) {
      low[lane] = static_cast<uint32_t>(value);
      high[lane] = static_cast<uint32_t>(static_cast<uint64_t>(value) >> 32);
    } else if constexpr (std::is_same_v<T, bool>) {
      low[lane] = value;
    } else {
      low[lane] = static_cast<std::make_unsigned_t<T>>(value);
    }
  }
};

// Where the threads of a block are.
struct Place {
  uint32_t block[3], grid[3], block_size[3];
};

class Warp {
 public:
  // `args` and `shared` are the block's.
  Warp(const Kernel& kernel, const unsigned char* args, std::vector<unsigned char>& shared);

  // The threads from `first` on of a block stand at the kernel's beginning.
  void begin(const Place& place, uint32_t first);

  // Until every lane has ended or waits at a barrier of the block. Throws simt::Failure.
  void run();
  // The instruction of the barrier at which all lanes wait; null where all have ended.
  const Instruction* barrier() const;
  void pass_barrier();

  // What instructions use.

  Register& operand(const Instruction& instruction, unsigned number) {
    return registers_[instruction.operands[number]];
  }
  // `bytes` from `address` on, a multiple of their number, which is a power of two.
  unsigned char* shared(const Instruction& instruction, uint64_t address, size_t bytes) {
    if ((address & (bytes - 1)) != 0 || address >= shared_.size() || shared_.size() - address < bytes)
      fail_address(instruction, address, shared_.size());
    return shared_.data() + address;
  }
  const unsigned char* args(const Instruction& instruction, uint64_t address, size_t bytes) const {
    if ((address & (bytes - 1)) != 0 || address >= kernel_.args_bytes || kernel_.args_bytes - address < bytes)
      fail_address(instruction, address, kernel_.args_bytes);
    return args_ + address;
  }
  unsigned char* global(const Instruction& instruction, uint64_t address, size_t bytes) const {
    if ((address & (bytes - 1)) != 0) fail_address(instruction, address, SIZE_MAX);
    return reinterpret_cast<unsigned char*>(address);
  }
  [[noreturn]] void fail(const Instruction& instruction, const std::string& problem) const;

  // Copies that the lanes have begun and not waited for.
  struct Copy {
    unsigned char* to;
    const unsigned char* from;
    size_t bytes;  // and zeros up to 16
    unsigned lane;
  };
  std::vector<Copy> copies;

 private:
  [[noreturn]] void fail_address(const Instruction& instruction, uint64_t address, size_t of_bytes) const;
  void fill_special(Special special, uint32_t first, Register& result) const;
  uint32_t group(uint32_t& at, uint32_t& others) const;
  bool step(uint32_t& at, uint32_t lanes);
  void move(uint32_t lanes, uint32_t to);
  void arrive(const Instruction& instruction, uint32_t at, uint32_t lanes);
  uint32_t guarded(const Instruction& instruction, uint32_t lanes) const;

  const Kernel& kernel_;
  Place place_ = {};
  const unsigned char* args_;
  std::vector<unsigned char>& shared_;
  std::vector<Register> registers_;
  uint32_t at_[lanes_of_warp] = {};  // each lane's next instruction
  uint32_t threads_ = 0, alive_ = 0, waiting_ = 0;
};

}  // namespace ptx
