#include "warp.h"

#include <algorithm>
#include <cstring>

#include "../simt/launcher.h"

namespace ptx {

Warp::Warp(const Kernel& kernel, const unsigned char* args, std::vector<unsigned char>& shared)
    : kernel_(kernel), args_(args), shared_(shared), registers_(kernel.registers) {
  std::memset(registers_.data(), 0xff, registers_.size() * sizeof(Register));
  for (const auto& [number, value] : kernel_.constants) {
    for (unsigned lane = 0; lane < lanes_of_warp; ++lane) registers_[number].set(lane, value);
  }
}

void Warp::begin(const Place& place, uint32_t first) {
  place_ = place;
  const uint32_t threads = place.block_size[0] * place.block_size[1] * place.block_size[2] - first;
  alive_ = threads_ = threads >= lanes_of_warp ? all_lanes : (1u << threads) - 1;
  waiting_ = 0;
  copies.clear();
  move(all_lanes, 0);
  for (const auto& [number, special] : kernel_.specials) fill_special(special, first, registers_[number]);
}

void Warp::fill_special(Special special, uint32_t first, Register& result) const {
  const auto& [bx, by, bz] = place_.block_size;
  for (unsigned lane = 0; lane < lanes_of_warp; ++lane) {
    const uint32_t thread = first + lane, index[] = {thread % bx, thread / bx % by, thread / bx / by};
    const uint32_t* const of[] = {index, place_.block_size, place_.block, place_.grid};  // as Special::Of
    result.set(lane, of[static_cast<size_t>(special.of)][special.axis]);
  }
}

void Warp::fail(const Instruction& instruction, const std::string& problem) const {
  throw simt::Failure("kernel " + kernel_.name + ", block (" + std::to_string(place_.block[0]) + ", " +
                      std::to_string(place_.block[1]) + ", " + std::to_string(place_.block[2]) + "), `" +
                      instruction.text + "`: " + problem);
}

void Warp::fail_address(const Instruction& instruction, uint64_t address, size_t of_bytes) const {
  fail(instruction, "address " + std::to_string(address) + ", which is not aligned or lies beyond " +
                        std::to_string(of_bytes) + " bytes");
}

// The lanes that can go on and stand lowest, so that those which took another way come together again, and where the
// others begin.
uint32_t Warp::group(uint32_t& at, uint32_t& others) const {
  uint32_t lanes = 0;
  at = others = UINT32_MAX;
  for (uint32_t rest = alive_ & ~waiting_; rest != 0; rest &= rest - 1) {
    const auto lane = static_cast<unsigned>(std::countr_zero(rest));
    if (at_[lane] < at) others = at, at = at_[lane], lanes = 0;
    if (at_[lane] == at) lanes |= 1u << lane;
    if (at_[lane] > at) others = std::min(others, at_[lane]);
  }
  return lanes;
}

void Warp::run() {
  uint32_t at, others;
  for (uint32_t lanes = group(at, others); lanes != 0; lanes = group(at, others)) {
    bool together = true;
    while (together && at < others) together = step(at, lanes);
    if (together) move(lanes, at);
  }
  if (alive_ == 0 || (barrier() && alive_ == threads_)) return;
  fail(kernel_.code[at_[std::countr_zero(alive_)]], "some lanes wait here, others elsewhere, or they have ended");
}

// One instruction; true where the lanes go on together at what is then `at`, and have not been moved there.
bool Warp::step(uint32_t& at, uint32_t lanes) {
  if (at >= kernel_.code.size()) throw simt::Failure("kernel " + kernel_.name + " runs beyond its end");
  const Instruction& instruction = kernel_.code[at];
  const uint32_t active = guarded(instruction, lanes);
  switch (instruction.opcode->kind) {
    case Kind::plain:
      instruction.opcode->execute(*this, instruction, active);
      ++at;
      return true;
    case Kind::branch:
      if (active == lanes || active == 0) {
        at = active == 0 ? at + 1 : instruction.target;
        return true;
      }
      move(lanes, at + 1);
      move(active, instruction.target);
      return false;
    case Kind::end:
      move(lanes, at + 1);
      alive_ &= ~active;
      return false;
    case Kind::together:
    case Kind::barrier:
      if (active != lanes) fail(instruction, "a predicate before it");
      arrive(instruction, at, lanes);
      return false;
  }
  return false;
}

uint32_t Warp::guarded(const Instruction& instruction, uint32_t lanes) const {
  if (instruction.guard == no_register) return lanes;
  uint32_t active = 0;
  for (unsigned lane = 0; lane < lanes_of_warp; ++lane) {
    active |= static_cast<uint32_t>((registers_[instruction.guard].low[lane] != 0) != instruction.negated) << lane;
  }
  return active & lanes;
}

void Warp::move(uint32_t lanes, uint32_t to) {
  for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) at_[std::countr_zero(rest)] = to;
}

// Lanes wait until all that take part are there.
void Warp::arrive(const Instruction& instruction, uint32_t at, uint32_t lanes) {
  move(lanes, at);
  waiting_ |= lanes;
  if (instruction.opcode->kind == Kind::barrier) return;
  const auto first = static_cast<unsigned>(std::countr_zero(lanes));
  uint32_t mask = all_lanes;
  if (instruction.opcode->masked) mask = operand(instruction, instruction.opcode->operands - 1).get<uint32_t>(first);
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const auto lane = static_cast<unsigned>(std::countr_zero(rest));
    if (!(alive_ >> lane & 1)) fail(instruction, "lane " + std::to_string(lane) + " has ended");
    if (!(waiting_ >> lane & 1) || at_[lane] != at) return;
  }
  if ((mask & lanes) != lanes) fail(instruction, "a lane that its mask leaves out");
  instruction.opcode->execute(*this, instruction, mask);
  waiting_ &= ~mask;
  move(mask, at + 1);
}

const Instruction* Warp::barrier() const {
  if (alive_ == 0) return nullptr;
  const uint32_t at = at_[std::countr_zero(alive_)];
  for (uint32_t rest = alive_; rest != 0; rest &= rest - 1) {
    if (at_[std::countr_zero(rest)] != at) return nullptr;
  }
  const Instruction& instruction = kernel_.code[at];
  return instruction.opcode->kind == Kind::barrier ? &instruction : nullptr;
}

void Warp::pass_barrier() {
  waiting_ = 0;
  for (uint32_t& at : at_) ++at;
}

}  // namespace ptx
