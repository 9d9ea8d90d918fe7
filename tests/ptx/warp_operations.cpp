#include "../simt/mma.h"
#include "instructions.h"

namespace ptx {
namespace {

// d|p, a, b, c, mask: a of the lane that Function gives for one's own and b; c says that a warp is not divided.
template <class Function>
Opcode shuffle(Function) {
  return {[](Warp& warp, const Instruction& instruction, uint32_t lanes) {
            const Register from = warp.operand(instruction, 2), b = warp.operand(instruction, 3);
            for_each_lane(lanes, [&](unsigned lane) {
              if (warp.operand(instruction, 4).get<uint32_t>(lane) != 31)
                warp.fail(instruction, "of a part of the warp");
              unsigned source = Function()(lane, b.get<uint32_t>(lane));
              const bool inside = source < lanes_of_warp;
              if (!inside) source = lane;
              if (!(lanes >> source & 1)) warp.fail(instruction, "a lane reads one that its mask leaves out");
              warp.operand(instruction, 0).set(lane, from.get<uint32_t>(source));
              warp.operand(instruction, 1).set(lane, inside);
            });
          },
          Kind::together, 6, true};
}
void ballot(Warp& warp, const Instruction& instruction, uint32_t lanes) {
  uint32_t bits = 0;
  for_each_lane(lanes, [&](unsigned lane) {
    if (warp.operand(instruction, 1).get<uint32_t>(lane) != 0) bits |= 1u << lane;
  });
  for_each_lane(lanes, [&](unsigned lane) { warp.operand(instruction, 0).set(lane, bits); });
}

// Operands are the sums, a, b, the sums before.
template <simt::Mma shape, unsigned sums, unsigned of_a, unsigned of_b>
Opcode multiply() {
  return {[](Warp& warp, const Instruction& instruction, uint32_t lanes) {
            simt::Fragments fragments[lanes_of_warp] = {};
            simt::Fragments* all[lanes_of_warp];
            for_each_lane(lanes, [&](unsigned lane) {
              simt::Fragments& of = fragments[lane];
              of.shape = shape;
              unsigned operand = sums;
              const auto next = [&] { return warp.operand(instruction, operand++).template get<uint32_t>(lane); };
              for (unsigned i = 0; i < of_a; ++i) of.a[i] = next();
              for (unsigned i = 0; i < of_b; ++i) of.b[i] = next();
              for (unsigned i = 0; i < sums; ++i) of.sums[i] = static_cast<int32_t>(next());
              all[lane] = &of;
            });
            simt::multiply(all);
            for_each_lane(lanes, [&](unsigned lane) {
              for (unsigned i = 0; i < sums; ++i) warp.operand(instruction, i).set(lane, fragments[lane].sums[i]);
            });
          },
          Kind::together, 2 * sums + of_a + of_b};
}

}  // namespace

void add_warp_operations(Opcodes& all) {
  using simt::Mma;
  all["shfl.sync.bfly.b32"] = shuffle([](unsigned lane, uint32_t b) { return lane ^ b; });
  all["shfl.sync.idx.b32"] = shuffle([](unsigned, uint32_t b) { return b % lanes_of_warp; });
  all["shfl.sync.down.b32"] = shuffle([](unsigned lane, uint32_t b) { return lane + b; });
  all["vote.sync.ballot.b32"] = {ballot, Kind::together, 3, true};
  all["mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32"] = multiply<Mma::m8n8k16, 2, 1, 1>();
  all["mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32"] = multiply<Mma::m16n8k32, 4, 4, 2>();
  all["mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"] = multiply<Mma::m16n8k16_bf16, 4, 4, 2>();
  all["mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32"] = multiply<Mma::m16n8k8_fp16, 4, 2, 1>();
  all["bar.sync"] = {nullptr, Kind::barrier, 1};
}

}  // namespace ptx
