// Eight fp32 lanes of AVX2 with hardware FMA. Only for translation units compiled with -mavx2 -mfma.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "cpu/vector_parts.h"

namespace kernels {

struct Avx2 {
  static constexpr size_t width = 8;
  // A register tile of a matrix product: 6 x 16 leaves 4 of 16 registers for operands.
  static constexpr int tile_rows = 6, tile_vectors = 2;
  static constexpr const char* name = "avx2";

  __m256 v;

  static Avx2 zero() { return {_mm256_setzero_ps()}; }
  static Avx2 broadcast(float x) { return {_mm256_set1_ps(x)}; }
  static Avx2 load(const float* p, Whole = {}) { return {_mm256_loadu_ps(p)}; }
  static Avx2 load(const float* p, Part part) { return {_mm256_maskload_ps(p, mask(part))}; }
  void store(float* p, Whole = {}) const { _mm256_storeu_ps(p, v); }
  void store(float* p, Part part) const { _mm256_maskstore_ps(p, mask(part), v); }

  friend Avx2 operator+(Avx2 a, Avx2 b) { return {_mm256_add_ps(a.v, b.v)}; }
  friend Avx2 operator-(Avx2 a, Avx2 b) { return {_mm256_sub_ps(a.v, b.v)}; }
  friend Avx2 operator*(Avx2 a, Avx2 b) { return {_mm256_mul_ps(a.v, b.v)}; }
  friend Avx2 operator/(Avx2 a, Avx2 b) { return {_mm256_div_ps(a.v, b.v)}; }
  friend Avx2 operator-(Avx2 a) { return a ^ broadcast(-0.0f); }
  friend Avx2 fma(Avx2 a, Avx2 b, Avx2 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  friend Avx2 sqrt(Avx2 a) { return {_mm256_sqrt_ps(a.v)}; }
  friend Avx2 max(Avx2 a, Avx2 b) { return {_mm256_max_ps(a.v, b.v)}; }  // a > b ? a : b
  friend Avx2 min(Avx2 a, Avx2 b) { return {_mm256_min_ps(a.v, b.v)}; }  // a < b ? a : b

  // Comparisons give lanes of all ones or all zeros; false for NaN.
  friend Avx2 operator<(Avx2 a, Avx2 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
  friend Avx2 operator<=(Avx2 a, Avx2 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LE_OQ)}; }
  friend Avx2 operator==(Avx2 a, Avx2 b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ)}; }
  friend Avx2 select(Avx2 condition, Avx2 yes, Avx2 no) { return {_mm256_blendv_ps(no.v, yes.v, condition.v)}; }
  friend bool all(Avx2 condition) { return _mm256_movemask_ps(condition.v) == 0xff; }

  // Operations on the bits of the lanes as integers.
  friend Avx2 operator&(Avx2 a, Avx2 b) { return {_mm256_and_ps(a.v, b.v)}; }
  friend Avx2 operator|(Avx2 a, Avx2 b) { return {_mm256_or_ps(a.v, b.v)}; }
  friend Avx2 operator^(Avx2 a, Avx2 b) { return {_mm256_xor_ps(a.v, b.v)}; }
  friend Avx2 add_bits(Avx2 a, Avx2 b) { return {_mm256_castsi256_ps(_mm256_add_epi32(a.bits(), b.bits()))}; }
  template <int n>
  friend Avx2 shift_bits_left(Avx2 a) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(a.bits(), n))};
  }
  static Avx2 broadcast_bits(int32_t x) { return {_mm256_castsi256_ps(_mm256_set1_epi32(x))}; }

  // Lanes as int32: the larger ones; the sums of two products of 16 bits each; the nearest fp32.
  friend Avx2 max_bits(Avx2 a, Avx2 b) { return {_mm256_castsi256_ps(_mm256_max_epi32(a.bits(), b.bits()))}; }
  friend Avx2 multiply_pairs(Avx2 a, Avx2 b) { return {_mm256_castsi256_ps(_mm256_madd_epi16(a.bits(), b.bits()))}; }
  friend Avx2 to_float(Avx2 a) { return {_mm256_cvtepi32_ps(a.bits())}; }
  friend Avx2 highest_bits(Avx2 a) {
    a = max_bits(a, {_mm256_permute2f128_ps(a.v, a.v, 1)});
    a = max_bits(a, {_mm256_permute_ps(a.v, 0x4e)});
    return max_bits(a, {_mm256_permute_ps(a.v, 0xb1)});
  }
  void store_low_bytes(int8_t* p, Whole) const { _mm_storel_epi64(reinterpret_cast<__m128i*>(p), low_bytes()); }
  void store_low_bytes(int8_t* p, Part part) const {
    int8_t bytes[16];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes), low_bytes());
    for (size_t i = 0; i < part.count; ++i) p[i] = bytes[i];
  }
  // 16 bytes as 16 bits each.
  static Avx2 widen(const int8_t* p) {
    return {_mm256_castsi256_ps(_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
  }

  // The first `part.count` lanes, the rest +0.
  friend Avx2 keep(Avx2 a, Part part) { return {_mm256_and_ps(a.v, _mm256_castsi256_ps(mask(part)))}; }
  friend Avx2 keep(Avx2 a, Whole) { return a; }

  friend float first(Avx2 a) { return _mm256_cvtss_f32(a.v); }
  // Lane 0 of the butterfly over d = 4, 2, 1.
  friend float butterfly(Avx2 a) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
  }
  friend float highest(Avx2 a) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
  }

  // Transposes the square of rows[0 … 7].
  static void transpose(Avx2* rows) {
    __m256 t[8], s[8];
    for (int i = 0; i < 8; i += 2) {
      t[i] = _mm256_unpacklo_ps(rows[i].v, rows[i + 1].v);
      t[i + 1] = _mm256_unpackhi_ps(rows[i].v, rows[i + 1].v);
    }
    for (int i = 0; i < 8; i += 4) {
      s[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
      s[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
      s[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
      s[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) {
      rows[i].v = _mm256_permute2f128_ps(s[i], s[i + 4], 0x20);
      rows[i + 4].v = _mm256_permute2f128_ps(s[i], s[i + 4], 0x31);
    }
  }

 private:
  __m256i bits() const { return _mm256_castps_si256(v); }
  __m128i low_bytes() const {
    const __m256i gathered = _mm256_shuffle_epi8(bits(), _mm256_set1_epi32(0x0c080400));
    return _mm_unpacklo_epi32(_mm256_castsi256_si128(gathered), _mm256_extracti128_si256(gathered, 1));
  }
  static __m256i mask(Part part) {
    alignas(32) static constexpr int32_t window[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(window + 8 - part.count));
  }
};

}  // namespace kernels
