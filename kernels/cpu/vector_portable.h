// Four fp32 lanes in the compiler's vector extension, for any processor. fma is built from correctly rounded binary64
// operations, so that no FMA hardware is needed and none of libm is called.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "cpu/vector_parts.h"

namespace kernels {

struct Portable {
  static constexpr size_t width = 4;
  static constexpr int tile_rows = 3, tile_vectors = 2;
  static constexpr const char* name = "portable";

  typedef float Floats __attribute__((vector_size(16)));
  typedef float Pair __attribute__((vector_size(8)));
  typedef int32_t Ints __attribute__((vector_size(16)));
  typedef uint32_t Words __attribute__((vector_size(16)));
  typedef double Doubles __attribute__((vector_size(16)));
  typedef int64_t Longs __attribute__((vector_size(16)));
  typedef uint64_t Unsigneds __attribute__((vector_size(16)));

  Floats v;

  static Portable zero() { return {Floats{}}; }
  static Portable broadcast(float x) { return {Floats{x, x, x, x}}; }
  static Portable load(const float* p, Whole = {}) {
    Portable a;
    std::memcpy(&a.v, p, sizeof a.v);
    return a;
  }
  static Portable load(const float* p, Part part) {
    Portable a = zero();
    for (size_t i = 0; i < part.count; ++i) a.v[i] = p[i];
    return a;
  }
  void store(float* p, Whole = {}) const { std::memcpy(p, &v, sizeof v); }
  void store(float* p, Part part) const {
    for (size_t i = 0; i < part.count; ++i) p[i] = v[i];
  }

  friend Portable operator+(Portable a, Portable b) { return {a.v + b.v}; }
  friend Portable operator-(Portable a, Portable b) { return {a.v - b.v}; }
  friend Portable operator*(Portable a, Portable b) { return {a.v * b.v}; }
  friend Portable operator/(Portable a, Portable b) { return {a.v / b.v}; }
  friend Portable operator-(Portable a) { return {-a.v}; }
  friend Portable fma(Portable a, Portable b, Portable c) {
    const Doubles low = fma_odd(low_half(a.v), low_half(b.v), low_half(c.v));
    const Doubles high = fma_odd(high_half(a.v), high_half(b.v), high_half(c.v));
    return {narrow(low, high)};
  }
  friend Portable sqrt(Portable a) {
    for (size_t i = 0; i < width; ++i) a.v[i] = __builtin_sqrtf(a.v[i]);
    return a;
  }
  friend Portable max(Portable a, Portable b) { return {a.v > b.v ? a.v : b.v}; }
  friend Portable min(Portable a, Portable b) { return {a.v < b.v ? a.v : b.v}; }

  // Comparisons give lanes of all ones or all zeros; false for NaN.
  friend Portable operator<(Portable a, Portable b) { return {(Floats)(a.v < b.v)}; }
  friend Portable operator<=(Portable a, Portable b) { return {(Floats)(a.v <= b.v)}; }
  friend Portable operator==(Portable a, Portable b) { return {(Floats)(a.v == b.v)}; }
  friend Portable select(Portable condition, Portable yes, Portable no) {
    return {(Floats)((condition.bits() & yes.bits()) | (~condition.bits() & no.bits()))};
  }
  friend bool all(Portable condition) {
    const Ints i = condition.bits();
    return (i[0] & i[1] & i[2] & i[3]) != 0;
  }

  // Operations on the bits of the lanes as integers.
  friend Portable operator&(Portable a, Portable b) { return {(Floats)(a.bits() & b.bits())}; }
  friend Portable operator|(Portable a, Portable b) { return {(Floats)(a.bits() | b.bits())}; }
  friend Portable operator^(Portable a, Portable b) { return {(Floats)(a.bits() ^ b.bits())}; }
  friend Portable add_bits(Portable a, Portable b) { return {(Floats)((Words)a.v + (Words)b.v)}; }
  template <int n>
  friend Portable shift_bits_left(Portable a) {
    return {(Floats)((Words)a.v << n)};
  }
  static Portable broadcast_bits(int32_t x) { return {(Floats)Ints{x, x, x, x}}; }

  // Lanes as int32: the larger ones; the sums of two products of 16 bits each; the nearest fp32.
  friend Portable max_bits(Portable a, Portable b) { return select({(Floats)(a.bits() > b.bits())}, a, b); }
  friend Portable multiply_pairs(Portable a, Portable b) {
#if defined(__SSE2__)
    return {(Floats)_mm_madd_epi16((__m128i)a.v, (__m128i)b.v)};
#else
    const Ints x = a.bits(), y = b.bits();
    return {(Floats)((x << 16 >> 16) * (y << 16 >> 16) + (x >> 16) * (y >> 16))};
#endif
  }
  friend Portable to_float(Portable a) { return {__builtin_convertvector(a.bits(), Floats)}; }
  friend Portable highest_bits(Portable a) {
    a = max_bits(a, {__builtin_shufflevector(a.v, a.v, 2, 3, 0, 1)});
    return max_bits(a, {__builtin_shufflevector(a.v, a.v, 1, 0, 3, 2)});
  }
  void store_low_bytes(int8_t* p, Whole) const { store_low_bytes(p, Part{width}); }
  void store_low_bytes(int8_t* p, Part part) const {
    const Ints lanes = bits();
    for (size_t i = 0; i < part.count; ++i) p[i] = static_cast<int8_t>(lanes[i]);
  }
  // 8 bytes as 16 bits each.
  static Portable widen(const int8_t* p) {
    int16_t wide[8];
    std::copy_n(p, 8, wide);
    Portable a;
    std::memcpy(&a.v, wide, sizeof a.v);
    return a;
  }

  // The first `part.count` lanes, the rest +0.
  friend Portable keep(Portable a, Part part) {
    for (size_t i = part.count; i < width; ++i) a.v[i] = 0;
    return a;
  }
  friend Portable keep(Portable a, Whole) { return a; }

  friend float first(Portable a) { return a.v[0]; }
  // Lane 0 of the butterfly over d = 2, 1.
  friend float butterfly(Portable a) { return (a.v[0] + a.v[2]) + (a.v[1] + a.v[3]); }
  friend float highest(Portable a) {
    float x = a.v[0];
    for (size_t i = 1; i < width; ++i) x = x > a.v[i] ? x : a.v[i];
    return x;
  }

  static Doubles low_half(Floats x) { return __builtin_convertvector(__builtin_shufflevector(x, x, 0, 1), Doubles); }
  static Doubles high_half(Floats x) { return __builtin_convertvector(__builtin_shufflevector(x, x, 2, 3), Doubles); }
  static Floats narrow(Doubles low, Doubles high) {
    return __builtin_shufflevector(__builtin_convertvector(low, Pair), __builtin_convertvector(high, Pair), 0, 1, 2, 3);
  }

  // Transposes the square of rows[0 … 3].
  static void transpose(Portable* rows) {
    const Floats a = rows[0].v, b = rows[1].v, c = rows[2].v, d = rows[3].v;
    for (size_t i = 0; i < width; ++i) rows[i].v = Floats{a[i], b[i], c[i], d[i]};
  }

 private:
  Ints bits() const { return (Ints)v; }

  // a·b + c rounded to odd in binary64: rounding that once more, to fp32, gives the correctly rounded result, since
  // 53 >= 2 · 24 + 2. The product is exact; TwoSum finds the error of the sum; an inexact even sum moves by one unit
  // towards the error, which makes it odd. (An infinite or NaN sum has the error NaN and is left alone.)
  static Doubles fma_odd(Doubles a, Doubles b, Doubles c) {
    const Doubles product = a * b;
    const Doubles sum = product + c;
    const Doubles part = sum - product;
    const Doubles error = (product - (sum - part)) + (c - part);
    const Longs bits = (Longs)sum;
    const Longs inexact = (error < 0.0) | (error > 0.0);
    const Longs unlike = (Longs)((Unsigneds)((Longs)error ^ bits) >> 63);  // 1: the error points towards zero
    const Longs step = (1 - 2 * unlike) & inexact & ((bits & 1) - 1);      // in units of the magnitude
    return (Doubles)(bits + step);
  }
};

}  // namespace kernels
