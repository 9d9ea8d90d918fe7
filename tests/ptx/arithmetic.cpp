#include <algorithm>
#include <cmath>

#include "../simt/nearest_half.h"
#include "instructions.h"

namespace ptx {
namespace {

template <class T>
Opcode unary(auto function) {
  return each<T, T>(function);
}
template <class T>
Opcode binary(auto function) {
  return each<T, T, T>(function);
}
template <class T>
Opcode compare(auto function) {
  return each<bool, T, T>(function);
}
template <class T>
Opcode select() {
  return each<T, T, T, uint32_t>([](T a, T b, uint32_t p) { return p != 0 ? a : b; });
}
template <class To, class From>
Opcode convert() {
  return each<To, From>([](From x) { return static_cast<To>(x); });
}
// To the nearest or the next towards zero; beyond the int32 the nearest of those, and 0 for NaN.
int32_t saturated(double x) {
  if (std::isnan(x)) return 0;
  return static_cast<int32_t>(std::clamp<double>(x, INT32_MIN, INT32_MAX));
}

// Most of what the tests run.
#if defined(__x86_64__)
[[gnu::target("avx2,fma")]] void fused_lanes(Register& d, const Register& a, const Register& b, const Register& c) {
  for (unsigned lane = 0; lane < lanes_of_warp; ++lane)
    d.low[lane] = std::bit_cast<uint32_t>(__builtin_fmaf(
        std::bit_cast<float>(a.low[lane]), std::bit_cast<float>(b.low[lane]), std::bit_cast<float>(c.low[lane])));
}
const bool has_fma = __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2");
#endif
void fused(Warp& warp, const Instruction& instruction, uint32_t lanes) {
  Register& d = warp.operand(instruction, 0);
  const Register &a = warp.operand(instruction, 1), &b = warp.operand(instruction, 2),
                 &c = warp.operand(instruction, 3);
#if defined(__x86_64__)
  if (lanes == all_lanes && has_fma) return fused_lanes(d, a, b, c);
#endif
  for_each_lane(
      lanes, [&](unsigned lane) { d.set(lane, std::fma(a.get<float>(lane), b.get<float>(lane), c.get<float>(lane))); });
}

// Bits.

constexpr auto permute = [](uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t result = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const uint32_t choice = selector >> 4 * i & 0xf, byte = static_cast<uint32_t>(bytes >> 8 * (choice & 7)) & 0xff;
    result |= (choice & 8 ? (byte & 0x80 ? 0xffu : 0u) : byte) << 8 * i;
  }
  return result;
};
constexpr uint32_t low_bits(uint32_t count) { return count >= 32 ? UINT32_MAX : (1u << count) - 1; }
constexpr auto insert_bits = [](uint32_t a, uint32_t b, uint32_t position, uint32_t length) {
  const uint32_t mask = position >= 32 ? 0 : low_bits(length) << position;
  return (position >= 32 ? 0 : a << position & mask) | (b & ~mask);
};
constexpr auto extract_bits = [](uint32_t a, uint32_t position, uint32_t length) {
  return position >= 32 ? 0 : a >> position & low_bits(length);
};
constexpr auto reversed = [](uint32_t x) {
  uint32_t y = 0;
  for (unsigned i = 0; i < 32; ++i) y |= (x >> i & 1) << (31 - i);
  return y;
};
constexpr auto dot = [](int32_t a, int32_t b, int32_t c) {
  auto sum = static_cast<uint32_t>(c);
  for (int i = 0; i < 32; i += 8)
    sum += static_cast<uint32_t>(static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i));
  return static_cast<int32_t>(sum);
};
// By the width or more, nothing but signs is left.
constexpr auto shifted_left = [](auto x, uint32_t by) { return by >= 8 * sizeof x ? 0 : x << by; };
constexpr auto shifted_right = [](auto x, uint32_t by) { return by >= 8 * sizeof x ? (x < 0 ? -1 : 0) : x >> by; };
uint16_t nearest(float x, const simt::HalfFormat& format) {
  return simt::half_bits(std::isnan(x) ? NAN : simt::nearest_half(x, format), format);
}

constexpr auto add = [](auto a, auto b) { return a + b; };
constexpr auto subtract = [](auto a, auto b) { return a - b; };
constexpr auto minimum = [](auto a, auto b) { return std::min(a, b); };
constexpr auto maximum = [](auto a, auto b) { return std::max(a, b); };
constexpr auto both = [](auto a, auto b) { return a & b; };
constexpr auto either = [](auto a, auto b) { return a | b; };
constexpr auto exclusive = [](auto a, auto b) { return a ^ b; };
constexpr auto equal = [](auto a, auto b) { return a == b; };
constexpr auto unequal = [](auto a, auto b) { return a != b; };
constexpr auto less = [](auto a, auto b) { return a < b; };
constexpr auto less_or_equal = [](auto a, auto b) { return a <= b; };
constexpr auto greater = [](auto a, auto b) { return a > b; };
constexpr auto greater_or_equal = [](auto a, auto b) { return a >= b; };

void add_floats(Opcodes& all) {
  all["add.rn.f32"] = binary<float>(add);
  all["sub.rn.f32"] = binary<float>(subtract);
  all["mul.rn.f32"] = binary<float>([](float a, float b) { return a * b; });
  all["fma.rn.f32"] = {fused, Kind::plain, 4};
  all["div.rn.f32"] = binary<float>([](float a, float b) { return a / b; });
  all["rcp.rn.f32"] = unary<float>([](float x) { return 1 / x; });
  all["sqrt.rn.f32"] = unary<float>([](float x) { return std::sqrt(x); });
  all["neg.f32"] = each<uint32_t, uint32_t>([](uint32_t x) { return x ^ 0x80000000; });
  all["abs.f32"] = each<uint32_t, uint32_t>([](uint32_t x) { return x & 0x7fffffff; });
  all["max.f32"] = binary<float>([](float a, float b) { return std::fmax(a, b); });
  all["ex2.approx.ftz.f32"] = unary<float>([](float x) {
    const float y = std::exp2(x);
    return y < 0x1p-126f ? 0.0f : y;
  });
  all["lg2.approx.f32"] = unary<float>([](float x) { return std::log2(x); });
  all["setp.eq.f32"] = compare<float>(equal);
  all["setp.lt.f32"] = compare<float>(less);
  all["setp.le.f32"] = compare<float>(less_or_equal);
  all["setp.gt.f32"] = compare<float>(greater);
  all["setp.ge.f32"] = compare<float>(greater_or_equal);
  // What ends with u holds for NaN, too.
  all["setp.neu.f32"] = compare<float>(unequal);
  all["setp.ltu.f32"] = compare<float>([](float a, float b) { return !(a >= b); });
  all["setp.gtu.f32"] = compare<float>([](float a, float b) { return !(a <= b); });
  all["cvt.rni.s32.f32"] =
      each<int32_t, float>([](float x) { return saturated(std::nearbyint(static_cast<double>(x))); });
  all["cvt.rzi.s32.f32"] = each<int32_t, float>([](float x) { return saturated(std::trunc(static_cast<double>(x))); });
  all["cvt.rn.f32.s32"] = convert<float, int32_t>();
  all["cvt.rn.f32.u32"] = convert<float, uint32_t>();
  all["cvt.rn.f32.s16"] = convert<float, int16_t>();
  all["cvt.f32.f16"] =
      each<float, uint16_t>([](uint16_t x) { return static_cast<float>(simt::half_number(x, simt::fp16_format)); });
  all["cvt.rn.f16.f32"] = each<uint16_t, float>([](float x) { return nearest(x, simt::fp16_format); });
  all["cvt.rn.bf16x2.f32"] = each<uint32_t, float, float>([](float high, float low) {
    return uint32_t{nearest(high, simt::bf16_format)} << 16 | nearest(low, simt::bf16_format);
  });
}

template <class T>
void add_order(Opcodes& all, const std::string& type) {
  all["min" + type] = binary<T>(minimum);
  all["max" + type] = binary<T>(maximum);
  all["setp.lt" + type] = compare<T>(less);
  all["setp.le" + type] = compare<T>(less_or_equal);
  all["setp.gt" + type] = compare<T>(greater);
  all["setp.ge" + type] = compare<T>(greater_or_equal);
}

template <class Unsigned>
void add_integers(Opcodes& all) {
  using Signed = std::make_signed_t<Unsigned>;
  const std::string bits = std::to_string(8 * sizeof(Unsigned)), b = ".b" + bits, s = ".s" + bits, u = ".u" + bits;
  for (const std::string& type : {s, u}) {
    all["add" + type] = binary<Unsigned>(add);
    all["sub" + type] = binary<Unsigned>(subtract);
    // The 1 keeps products of 16 bits from being of signed numbers.
    all["mul.lo" + type] = binary<Unsigned>([](Unsigned x, Unsigned y) { return 1u * x * y; });
    all["mad.lo" + type] =
        each<Unsigned, Unsigned, Unsigned, Unsigned>([](auto x, auto y, auto z) { return 1u * x * y + z; });
  }
  all["neg" + s] = unary<Unsigned>([](Unsigned x) { return 0 - x; });
  all["div" + u] = binary<Unsigned>([](Unsigned x, Unsigned y) { return x / y; });
  all["rem" + u] = binary<Unsigned>([](Unsigned x, Unsigned y) { return x % y; });
  all["and" + b] = binary<Unsigned>(both);
  all["or" + b] = binary<Unsigned>(either);
  all["xor" + b] = binary<Unsigned>(exclusive);
  all["not" + b] = unary<Unsigned>([](Unsigned x) { return ~x; });
  all["shl" + b] = each<Unsigned, Unsigned, uint32_t>(shifted_left);
  all["shr" + u] = each<Unsigned, Unsigned, uint32_t>(shifted_right);
  all["shr" + s] = each<Signed, Signed, uint32_t>(shifted_right);
  for (const std::string& type : {b, s, u}) {
    all["mov" + type] = unary<Unsigned>([](Unsigned x) { return x; });
    all["selp" + type] = select<Unsigned>();
    all["setp.eq" + type] = compare<Unsigned>(equal);
    all["setp.ne" + type] = compare<Unsigned>(unequal);
  }
  add_order<Unsigned>(all, u);
  add_order<Signed>(all, s);
}

void add_conversions(Opcodes& all) {
  all["cvt.u16.u32"] = convert<uint16_t, uint32_t>();
  all["cvt.u32.u16"] = convert<uint32_t, uint16_t>();
  all["cvt.u32.u64"] = convert<uint32_t, uint64_t>();
  all["cvt.u64.u16"] = convert<uint64_t, uint16_t>();
  all["cvt.u64.u32"] = convert<uint64_t, uint32_t>();
  all["cvt.s16.s8"] = convert<int16_t, int8_t>();
  all["mul.wide.u16"] = each<uint32_t, uint16_t, uint16_t>([](uint32_t x, uint32_t y) { return x * y; });
  all["mul.wide.u32"] = each<uint64_t, uint32_t, uint32_t>([](uint64_t x, uint64_t y) { return x * y; });
  all["mul.wide.s32"] = each<int64_t, int32_t, int32_t>([](int64_t x, int64_t y) { return x * y; });
  all["mov.b32.pack"] =
      each<uint32_t, uint16_t, uint16_t>([](uint32_t low, uint32_t high) { return low | high << 16; });
  // Addresses in shared memory are the same within it and everywhere: no kernel asks which they are.
  for (const char* name : {"cvta.to.global.u64", "cvta.shared.u64", "cvta.to.shared.u64"}) all[name] = all["mov.u64"];
}

void add_bits(Opcodes& all) {
  all["prmt.b32"] = each<uint32_t, uint32_t, uint32_t, uint32_t>(permute);
  all["bfi.b32"] = each<uint32_t, uint32_t, uint32_t, uint32_t, uint32_t>(insert_bits);
  all["bfe.u32"] = each<uint32_t, uint32_t, uint32_t, uint32_t>(extract_bits);
  all["brev.b32"] = unary<uint32_t>(reversed);
  all["bfind.shiftamt.u32"] =
      unary<uint32_t>([](uint32_t x) { return x == 0 ? UINT32_MAX : static_cast<uint32_t>(std::countl_zero(x)); });
  all["shf.l.wrap.b32"] = each<uint32_t, uint32_t, uint32_t, uint32_t>([](uint32_t low, uint32_t high, uint32_t by) {
    return static_cast<uint32_t>((uint64_t{high} << 32 | low) << (by & 31) >> 32);
  });
  all["dp4a.s32.s32"] = each<int32_t, int32_t, int32_t, int32_t>(dot);
  for (const char* name : {"and", "or", "xor", "mov"})
    all[name + std::string(".pred")] = all[name + std::string(".b32")];
  all["not.pred"] = unary<uint32_t>([](uint32_t p) { return p ^ 1; });
}

}  // namespace

void add_arithmetic(Opcodes& all) {
  add_floats(all);
  add_integers<uint16_t>(all);
  add_integers<uint32_t>(all);
  add_integers<uint64_t>(all);
  add_conversions(all);
  add_bits(all);
  all["mov.f32"] = all["mov.b32"];
  all["selp.f32"] = all["selp.b32"];
}

}  // namespace ptx
