// Sixteen fp32 lanes of AVX-512. Only for translation units compiled with -mavx512f -mavx512vl -mavx512bw -mavx512dq.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "cpu/vector_parts.h"

namespace kernels {

struct Avx512 {
  static constexpr size_t width = 16;
  // A register tile of a matrix product: 14 x 32 leaves 4 of 32 registers for operands.
  static constexpr int tile_rows = 14, tile_vectors = 2;
  static constexpr const char* name = "avx512";

  __m512 v;

  static Avx512 zero() { return {_mm512_setzero_ps()}; }
  // acc = fma(*a, b, acc) as one instruction: half as many for the processor's front end as a broadcast and an fma.
  static void fma_broadcast(Avx512& acc, const float* a, Avx512 b) {
    asm("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(acc.v) : "v"(b.v), "m"(*a));
  }
  static Avx512 broadcast(float x) { return {_mm512_set1_ps(x)}; }
  static Avx512 load(const float* p, Whole = {}) { return {_mm512_loadu_ps(p)}; }
  static Avx512 load(const float* p, Part part) { return {_mm512_maskz_loadu_ps(mask(part), p)}; }
  void store(float* p, Whole = {}) const { _mm512_storeu_ps(p, v); }
  void store(float* p, Part part) const { _mm512_mask_storeu_ps(p, mask(part), v); }

  friend Avx512 operator+(Avx512 a, Avx512 b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend Avx512 operator-(Avx512 a, Avx512 b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend Avx512 operator*(Avx512 a, Avx512 b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend Avx512 operator/(Avx512 a, Avx512 b) { return {_mm512_div_ps(a.v, b.v)}; }
  friend Avx512 operator-(Avx512 a) { return a ^ broadcast(-0.0f); }
  friend Avx512 fma(Avx512 a, Avx512 b, Avx512 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  friend Avx512 sqrt(Avx512 a) { return {_mm512_maskz_sqrt_ps(every, a.v)}; }
  friend Avx512 max(Avx512 a, Avx512 b) { return {_mm512_maskz_max_ps(every, a.v, b.v)}; }  // a > b ? a : b
  friend Avx512 min(Avx512 a, Avx512 b) { return {_mm512_maskz_min_ps(every, a.v, b.v)}; }  // a < b ? a : b

  // Lanes for which something holds.
  struct Condition {
    __mmask16 lanes;
    friend Avx512 select(Condition condition, Avx512 yes, Avx512 no) {
      return {_mm512_mask_blend_ps(condition.lanes, no.v, yes.v)};
    }
    friend bool all(Condition condition) { return condition.lanes == 0xffff; }
  };
  // False for NaN.
  friend Condition operator<(Avx512 a, Avx512 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
  friend Condition operator<=(Avx512 a, Avx512 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
  friend Condition operator==(Avx512 a, Avx512 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }

  // Operations on the bits of the lanes as integers.
  friend Avx512 operator&(Avx512 a, Avx512 b) { return {_mm512_and_ps(a.v, b.v)}; }
  friend Avx512 operator|(Avx512 a, Avx512 b) { return {_mm512_or_ps(a.v, b.v)}; }
  friend Avx512 operator^(Avx512 a, Avx512 b) { return {_mm512_xor_ps(a.v, b.v)}; }
  friend Avx512 add_bits(Avx512 a, Avx512 b) { return {_mm512_castsi512_ps(_mm512_add_epi32(a.bits(), b.bits()))}; }
  template <int n>
  friend Avx512 shift_bits_left(Avx512 a) {
    return {_mm512_castsi512_ps(_mm512_maskz_slli_epi32(every, a.bits(), n))};
  }
  static Avx512 broadcast_bits(int32_t x) { return {_mm512_castsi512_ps(_mm512_set1_epi32(x))}; }

  // Lanes as int32: the larger ones; the sums of two products of 16 bits each; the nearest fp32.
  friend Avx512 max_bits(Avx512 a, Avx512 b) {
    return {_mm512_castsi512_ps(_mm512_maskz_max_epi32(every, a.bits(), b.bits()))};
  }
  friend Avx512 multiply_pairs(Avx512 a, Avx512 b) {
    return {_mm512_castsi512_ps(_mm512_madd_epi16(a.bits(), b.bits()))};
  }
  friend Avx512 to_float(Avx512 a) { return {_mm512_maskz_cvtepi32_ps(every, a.bits())}; }
  friend Avx512 highest_bits(Avx512 a) {
    a = max_bits(a, {_mm512_maskz_shuffle_f32x4(every, a.v, a.v, 0x4e)});
    a = max_bits(a, {_mm512_maskz_shuffle_f32x4(every, a.v, a.v, 0xb1)});
    a = max_bits(a, {_mm512_maskz_permute_ps(every, a.v, 0x4e)});
    return max_bits(a, {_mm512_maskz_permute_ps(every, a.v, 0xb1)});
  }
  void store_low_bytes(int8_t* p, Whole) const {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_maskz_cvtepi32_epi8(every, bits()));
  }
  void store_low_bytes(int8_t* p, Part part) const { _mm512_mask_cvtepi32_storeu_epi8(p, mask(part), bits()); }
  // 32 bytes as 16 bits each.
  static Avx512 widen(const int8_t* p) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_maskz_cvtepi8_epi16(0xffffffff, bytes))};
  }

  // The first `part.count` lanes, the rest +0.
  friend Avx512 keep(Avx512 a, Part part) { return {_mm512_maskz_mov_ps(mask(part), a.v)}; }
  friend Avx512 keep(Avx512 a, Whole) { return a; }

  friend float first(Avx512 a) { return _mm512_cvtss_f32(a.v); }
  // Lane 0 of the butterfly over d = 8, 4, 2, 1.
  friend float butterfly(Avx512 a) {
    const __m256 y = _mm256_add_ps(a.half<0>(), a.half<1>());
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
  }
  friend float highest(Avx512 a) {
    const __m256 y = _mm256_max_ps(a.half<0>(), a.half<1>());
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
  }

  // Transposes the square of rows[0 … 15]: within quarters of the vectors first, then the quarters.
  static void transpose(Avx512* rows) {
    __m512 t[16], s[16];
    for (int i = 0; i < 16; i += 2) {
      t[i] = _mm512_maskz_unpacklo_ps(every, rows[i].v, rows[i + 1].v);
      t[i + 1] = _mm512_maskz_unpackhi_ps(every, rows[i].v, rows[i + 1].v);
    }
    for (int i = 0; i < 16; i += 4) {
      s[i] = _mm512_maskz_shuffle_ps(every, t[i], t[i + 2], 0x44);
      s[i + 1] = _mm512_maskz_shuffle_ps(every, t[i], t[i + 2], 0xee);
      s[i + 2] = _mm512_maskz_shuffle_ps(every, t[i + 1], t[i + 3], 0x44);
      s[i + 3] = _mm512_maskz_shuffle_ps(every, t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) {
      t[i] = _mm512_maskz_shuffle_f32x4(every, s[i], s[i + 4], 0x88);
      t[i + 4] = _mm512_maskz_shuffle_f32x4(every, s[i], s[i + 4], 0xdd);
      t[i + 8] = _mm512_maskz_shuffle_f32x4(every, s[i + 8], s[i + 12], 0x88);
      t[i + 12] = _mm512_maskz_shuffle_f32x4(every, s[i + 8], s[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; ++i) {
      rows[i].v = _mm512_maskz_shuffle_f32x4(every, t[i], t[i + 8], 0x88);
      rows[i + 4].v = _mm512_maskz_shuffle_f32x4(every, t[i + 4], t[i + 12], 0x88);
      rows[i + 8].v = _mm512_maskz_shuffle_f32x4(every, t[i], t[i + 8], 0xdd);
      rows[i + 12].v = _mm512_maskz_shuffle_f32x4(every, t[i + 4], t[i + 12], 0xdd);
    }
  }

 private:
  // All lanes: the masked forms of intrinsics spare GCC 12 a false warning of uninitialised values.
  static constexpr __mmask16 every = 0xffff;

  __m512i bits() const { return _mm512_castps_si512(v); }
  template <int n>
  __m256 half() const {
    return _mm512_maskz_extractf32x8_ps(0xff, v, n);
  }
  static __mmask16 mask(Part part) { return static_cast<__mmask16>((1u << part.count) - 1); }
};

}  // namespace kernels
