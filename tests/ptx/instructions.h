// How instructions are said: the PTX ISA's word for one, and what it does.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>

#include "program.h"
#include "warp.h"

namespace ptx {

using Opcodes = std::unordered_map<std::string, Opcode>;
void add_arithmetic(Opcodes& all);
void add_memory(Opcodes& all);
void add_warp_operations(Opcodes& all);

template <class Function>
void for_each_lane(uint32_t lanes, Function function) {
  if (lanes == all_lanes) {
    for (unsigned lane = 0; lane < lanes_of_warp; ++lane) function(lane);
  } else {
    for (; lanes != 0; lanes &= lanes - 1) function(static_cast<unsigned>(std::countr_zero(lanes)));
  }
}

// Of one result and operands of the given types, lane by lane.
template <class Result, class... Operands, class Function>
requires std::is_empty_v<Function> Opcode each(Function) {
  return {[](Warp& warp, const Instruction& instruction, uint32_t lanes) {
            [&]<size_t... number>(std::index_sequence<number...>) {
              Register& result = warp.operand(instruction, 0);
              const Register* const operands[] = {&warp.operand(instruction, number + 1)...};
              for_each_lane(lanes, [&](unsigned lane) {
                result.set(lane, static_cast<Result>(Function()(operands[number]->template get<Operands>(lane)...)));
              });
            }
            (std::index_sequence_for<Operands...>());
          },
          Kind::plain, 1 + sizeof...(Operands)};
}

}  // namespace ptx
