#include <algorithm>
#include <cstring>

#include "instructions.h"

namespace ptx {
namespace {

// Memory: `count` numbers of type T, aligned together.

enum class Space { global, shared, args };
template <Space space>
auto* memory(Warp& warp, const Instruction& instruction, uint64_t address, size_t bytes) {
  if constexpr (space == Space::global) return warp.global(instruction, address, bytes);
  if constexpr (space == Space::shared) return warp.shared(instruction, address, bytes);
  if constexpr (space == Space::args) return warp.args(instruction, address, bytes);
}
// 32-bit registers have addresses in shared memory, whose upper halves are then nobody's.
template <Space space>
uint64_t address_of(const Register& base, const Instruction& instruction, unsigned lane) {
  const uint64_t of_base = space == Space::shared ? base.get<uint32_t>(lane) : base.get<uint64_t>(lane);
  return of_base + static_cast<uint64_t>(instruction.offset);
}
template <Space space, class T, unsigned count = 1>
Opcode load() {
  return {[](Warp& warp, const Instruction& instruction, uint32_t lanes) {
            const Register& base = warp.operand(instruction, count);
            Register* results[count];
            for (unsigned i = 0; i < count; ++i) results[i] = &warp.operand(instruction, i);
            for_each_lane(lanes, [&](unsigned lane) {
              const uint64_t address = address_of<space>(base, instruction, lane);
              T values[count];
              std::memcpy(values, memory<space>(warp, instruction, address, sizeof values), sizeof values);
              // A register may be wider than what it is given.
              for (unsigned i = 0; i < count; ++i) results[i]->template set<uint64_t>(lane, values[i]);
            });
          },
          Kind::plain, count + 1};
}
template <Space space, class T, unsigned count = 1>
Opcode store() {
  return {[](Warp& warp, const Instruction& instruction, uint32_t lanes) {
            for_each_lane(lanes, [&](unsigned lane) {
              const uint64_t address = address_of<space>(warp.operand(instruction, 0), instruction, lane);
              T values[count];
              for (unsigned i = 0; i < count; ++i) values[i] = warp.operand(instruction, 1 + i).get<T>(lane);
              std::memcpy(memory<space>(warp, instruction, address, sizeof values), values, sizeof values);
            });
          },
          Kind::plain, count + 1};
}
void atomic_minimum(Warp& warp, const Instruction& instruction, uint32_t lanes) {
  for_each_lane(lanes, [&](unsigned lane) {
    const uint64_t address = address_of<Space::global>(warp.operand(instruction, 1), instruction, lane);
    unsigned char* const at = warp.global(instruction, address, sizeof(uint64_t));
    uint64_t before;
    std::memcpy(&before, at, sizeof before);
    const uint64_t after = std::min(before, warp.operand(instruction, 2).get<uint64_t>(lane));
    std::memcpy(at, &after, sizeof after);
    warp.operand(instruction, 0).set(lane, before);
  });
}

// Copies write at any time from now on: NaN at once, and what is copied when the lane has waited.
void begin_copy(Warp& warp, const Instruction& instruction, uint32_t lanes) {
  constexpr size_t bytes = 16;
  for_each_lane(lanes, [&](unsigned lane) {
    const uint64_t address = address_of<Space::shared>(warp.operand(instruction, 0), instruction, lane);
    unsigned char* const to = warp.shared(instruction, address, bytes);
    const size_t inside = warp.operand(instruction, 3).get<uint32_t>(lane);
    const unsigned char* const from =
        inside == 0 ? nullptr : warp.global(instruction, warp.operand(instruction, 1).get<uint64_t>(lane), bytes);
    if (warp.operand(instruction, 2).get<uint32_t>(lane) != bytes || inside > bytes)
      warp.fail(instruction, "not of 16 bytes");
    std::memset(to, 0xff, bytes);
    warp.copies.push_back({to, from, inside, lane});
  });
}
void wait_for_copies(Warp& warp, const Instruction&, uint32_t lanes) {
  std::erase_if(warp.copies, [lanes](const Warp::Copy& copy) {
    if (!(lanes >> copy.lane & 1)) return false;
    std::memset(copy.to, 0, 16);
    if (copy.bytes != 0) std::memcpy(copy.to, copy.from, copy.bytes);
    return true;
  });
}

// Lane l gives the address of row l % 8 of matrix l / 8, and gets of each matrix row l / 4, columns 2 (l % 4) and the
// next; of the transposed matrix where that is asked for.
template <bool transposed>
Opcode load_matrices() {
  return {[](Warp& warp, const Instruction& instruction, uint32_t lanes) {
            const unsigned char* rows[lanes_of_warp];
            for_each_lane(lanes, [&](unsigned lane) {
              rows[lane] = warp.shared(instruction,
                                       address_of<Space::shared>(warp.operand(instruction, 4), instruction, lane), 16);
            });
            const auto number = [&](unsigned matrix, unsigned row, unsigned column) {
              uint16_t value;
              if (transposed) std::swap(row, column);
              std::memcpy(&value, rows[8 * matrix + row] + column * sizeof value, sizeof value);
              return uint32_t{value};
            };
            for_each_lane(lanes, [&](unsigned lane) {
              const unsigned row = lane / 4, column = lane % 4 * 2;
              for (unsigned matrix = 0; matrix < 4; ++matrix)
                warp.operand(instruction, matrix)
                    .set(lane, number(matrix, row, column) | number(matrix, row, column + 1) << 16);
            });
          },
          Kind::together, 5};
}

template <class T>
void add_sizes(Opcodes& all, const std::string& type) {
  all["ld.param" + type] = load<Space::args, T>();
  all["ld.param.v2" + type] = load<Space::args, T, 2>();
  all["ld.global" + type] = load<Space::global, T>();
  all["ld.shared" + type] = load<Space::shared, T>();
  all["st.global" + type] = store<Space::global, T>();
  all["st.shared" + type] = store<Space::shared, T>();
  all["ld.global.v2" + type] = load<Space::global, T, 2>();
  all["ld.shared.v2" + type] = load<Space::shared, T, 2>();
  all["st.global.v2" + type] = store<Space::global, T, 2>();
  all["st.shared.v2" + type] = store<Space::shared, T, 2>();
}
template <class T>
void add_large_sizes(Opcodes& all, const std::string& type) {
  all["ld.global.v4" + type] = load<Space::global, T, 4>();
  all["ld.shared.v4" + type] = load<Space::shared, T, 4>();
  all["st.global.v4" + type] = store<Space::global, T, 4>();
  all["st.shared.v4" + type] = store<Space::shared, T, 4>();
}

}  // namespace

void add_memory(Opcodes& all) {
  add_sizes<uint8_t>(all, ".u8");
  add_sizes<uint16_t>(all, ".u16");
  add_sizes<uint64_t>(all, ".u64");
  for (const char* type : {".u32", ".f32"}) {
    add_sizes<uint32_t>(all, type);
    add_large_sizes<uint32_t>(all, type);
  }
  all["atom.global.min.u64"] = {atomic_minimum, Kind::plain, 3};
  all["cp.async.cg.shared.global"] = {begin_copy, Kind::plain, 4};
  all["cp.async.wait_all"] = {wait_for_copies, Kind::plain, 0};
  all["ldmatrix.sync.aligned.m8n8.x4.shared.b16"] = load_matrices<false>();
  all["ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16"] = load_matrices<true>();
}

}  // namespace ptx
