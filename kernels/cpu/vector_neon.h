// Four fp32 lanes of AArch64's NEON, which has FMA and is in every such processor.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "cpu/vector_parts.h"

namespace kernels {

struct Neon {
  static constexpr size_t width = 4;
  // A register tile of a matrix product: 6 x 16 leaves 8 of 32 registers for operands.
  static constexpr int tile_rows = 6, tile_vectors = 4;
  static constexpr const char* name = "neon";

  float32x4_t v;

  static Neon zero() { return {vdupq_n_f32(0)}; }
  static Neon broadcast(float x) { return {vdupq_n_f32(x)}; }
  static Neon load(const float* p, Whole = {}) { return {vld1q_f32(p)}; }
  static Neon load(const float* p, Part part) {
    Neon a = zero();
    for (size_t i = 0; i < part.count; ++i) a.v[i] = p[i];
    return a;
  }
  void store(float* p, Whole = {}) const { vst1q_f32(p, v); }
  void store(float* p, Part part) const {
    for (size_t i = 0; i < part.count; ++i) p[i] = v[i];
  }

  friend Neon operator+(Neon a, Neon b) { return {vaddq_f32(a.v, b.v)}; }
  friend Neon operator-(Neon a, Neon b) { return {vsubq_f32(a.v, b.v)}; }
  friend Neon operator*(Neon a, Neon b) { return {vmulq_f32(a.v, b.v)}; }
  friend Neon operator/(Neon a, Neon b) { return {vdivq_f32(a.v, b.v)}; }
  friend Neon operator-(Neon a) { return {vnegq_f32(a.v)}; }
  friend Neon fma(Neon a, Neon b, Neon c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
  friend Neon sqrt(Neon a) { return {vsqrtq_f32(a.v)}; }
  // a > b ? a : b, which vmaxq is not: it gives NaN where either is NaN.
  friend Neon max(Neon a, Neon b) { return {vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v)}; }
  friend Neon min(Neon a, Neon b) { return {vbslq_f32(vcltq_f32(a.v, b.v), a.v, b.v)}; }  // a < b ? a : b

  // Comparisons give lanes of all ones or all zeros; false for NaN.
  friend Neon operator<(Neon a, Neon b) { return of_bits(vcltq_f32(a.v, b.v)); }
  friend Neon operator<=(Neon a, Neon b) { return of_bits(vcleq_f32(a.v, b.v)); }
  friend Neon operator==(Neon a, Neon b) { return of_bits(vceqq_f32(a.v, b.v)); }
  friend Neon select(Neon condition, Neon yes, Neon no) { return {vbslq_f32(condition.bits(), yes.v, no.v)}; }
  friend bool all(Neon condition) { return vminvq_u32(condition.bits()) != 0; }

  // Operations on the bits of the lanes as integers.
  friend Neon operator&(Neon a, Neon b) { return of_bits(vandq_u32(a.bits(), b.bits())); }
  friend Neon operator|(Neon a, Neon b) { return of_bits(vorrq_u32(a.bits(), b.bits())); }
  friend Neon operator^(Neon a, Neon b) { return of_bits(veorq_u32(a.bits(), b.bits())); }
  friend Neon add_bits(Neon a, Neon b) { return of_bits(vaddq_u32(a.bits(), b.bits())); }
  template <int n>
  friend Neon shift_bits_left(Neon a) {
    return of_bits(vshlq_n_u32(a.bits(), n));
  }
  static Neon broadcast_bits(int32_t x) { return {vreinterpretq_f32_s32(vdupq_n_s32(x))}; }

  // Lanes as int32: the larger ones; the sums of two products of 16 bits each; the nearest fp32.
  friend Neon max_bits(Neon a, Neon b) { return of_ints(vmaxq_s32(a.ints(), b.ints())); }
  friend Neon multiply_pairs(Neon a, Neon b) {
    const int16x8_t x = vreinterpretq_s16_f32(a.v), y = vreinterpretq_s16_f32(b.v);
    return of_ints(vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y)));
  }
  friend Neon to_float(Neon a) { return {vcvtq_f32_s32(a.ints())}; }
  friend Neon highest_bits(Neon a) { return broadcast_bits(vmaxvq_s32(a.ints())); }
  void store_low_bytes(int8_t* p, Whole) const { store_low_bytes(p, Part{width}); }
  void store_low_bytes(int8_t* p, Part part) const {
    const int32x4_t lanes = ints();
    for (size_t i = 0; i < part.count; ++i) p[i] = static_cast<int8_t>(lanes[i]);
  }
  // 8 bytes as 16 bits each.
  static Neon widen(const int8_t* p) { return {vreinterpretq_f32_s16(vmovl_s8(vld1_s8(p)))}; }

  // The first `part.count` lanes, the rest +0.
  friend Neon keep(Neon a, Part part) { return of_bits(vandq_u32(a.bits(), mask(part))); }
  friend Neon keep(Neon a, Whole) { return a; }

  friend float first(Neon a) { return vgetq_lane_f32(a.v, 0); }
  // Lane 0 of the butterfly over d = 2, 1.
  friend float butterfly(Neon a) {
    const float32x2_t x = vadd_f32(vget_low_f32(a.v), vget_high_f32(a.v));
    return vget_lane_f32(x, 0) + vget_lane_f32(x, 1);
  }
  friend float highest(Neon a) {
    const Neon x = max(a, Neon{vextq_f32(a.v, a.v, 2)});
    return first(max(x, Neon{vextq_f32(x.v, x.v, 1)}));
  }

  // Transposes the square of rows[0 … 3].
  static void transpose(Neon* rows) {
    const float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(rows[0].v, rows[1].v));
    const float64x2_t b = vreinterpretq_f64_f32(vtrn2q_f32(rows[0].v, rows[1].v));
    const float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(rows[2].v, rows[3].v));
    const float64x2_t d = vreinterpretq_f64_f32(vtrn2q_f32(rows[2].v, rows[3].v));
    rows[0].v = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
    rows[1].v = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
    rows[2].v = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
    rows[3].v = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
  }

 private:
  int32x4_t ints() const { return vreinterpretq_s32_f32(v); }
  static Neon of_ints(int32x4_t x) { return {vreinterpretq_f32_s32(x)}; }
  uint32x4_t bits() const { return vreinterpretq_u32_f32(v); }
  static Neon of_bits(uint32x4_t bits) { return {vreinterpretq_f32_u32(bits)}; }
  static uint32x4_t mask(Part part) {
    static constexpr uint32_t window[8] = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};
    return vld1q_u32(window + 4 - part.count);
  }
};

}  // namespace kernels
