// PTX as NVIDIA's compiler makes it of kernels/cuda/, ready to run. "PTX ISA" is NVIDIA's reference of that name; of it
// there is what those kernels use, and a statement that is not known is an error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace ptx {

class Warp;
struct Instruction;

// Does what an instruction says, for the given lanes of a warp.
using Execute = void (*)(Warp& warp, const Instruction& instruction, uint32_t lanes);

enum class Kind {
  plain,
  together,  // by all lanes of the mask that is its last operand, or of the warp where it has none
  barrier,   // of the block
  branch,
  end,
};

struct Opcode {
  Execute execute = nullptr;
  Kind kind = Kind::plain;
  unsigned operands = 0;
  bool masked = false;
};

constexpr unsigned most_operands = 14;  // of mma.m16n8k16
constexpr uint32_t no_register = UINT32_MAX;

struct Instruction {
  const Opcode* opcode = nullptr;
  uint32_t operands[most_operands] = {};  // registers, in the order of the text
  int64_t offset = 0;                     // of its address
  uint32_t target = 0;                    // of a branch
  uint32_t guard = no_register;           // the predicate before it
  bool negated = false;
  std::string text;
};

// A special register: of what, in which direction.
struct Special {
  enum class Of { thread, block_size, block, grid } of;
  size_t axis;
};

// Numbers and addresses are registers that are filled before a kernel runs.
struct Kernel {
  std::string name;
  std::vector<Instruction> code;
  uint32_t registers = 0;
  std::map<uint32_t, uint64_t> constants;  // register and value
  std::map<uint32_t, Special> specials;    // register and what it is
  size_t args_bytes = 0, static_shared_bytes = 0;
  uint32_t most_threads = 1024;
};

// The texts of a file's kernels by their names, without comments, each from its name on.
std::map<std::string, std::string> kernel_texts(const std::string& file);

// Throws std::runtime_error, which names kernel and statement.
Kernel read_kernel(const std::string& text);

}  // namespace ptx
