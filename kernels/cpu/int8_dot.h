// How the units of an int8 product are multiplied: 32 bits that hold a few terms of a vector.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/vector_parts.h"

namespace kernels {

typedef int8_t Bytes __attribute__((vector_size(16)));

template <class V>
Bytes load_bytes(const int8_t* p) {
  Bytes x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
template <class V>
Bytes zip_low(Bytes a, Bytes b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
template <class V>
Bytes zip_high(Bytes a, Bytes b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

// The units of 16 neighbouring vectors whose terms are `stride` bytes apart, to strips of V::width vectors. Bytes have
// the bits of `flip` inverted.
template <class V, class Dot, int flip>
void zip_units(const int8_t* from, size_t stride, float* strip, size_t strip_stride) {
  Bytes units[4];
  Dot::zip(from, stride, units);
  for (size_t i = 0; i < 4; ++i) {
    if (flip) units[i] ^= static_cast<int8_t>(flip);
    __builtin_memcpy(strip + 4 * i / V::width * strip_stride + 4 * i % V::width, &units[i], sizeof units[i]);
  }
}

// Two terms of 16 bits in a unit, for every processor with a multiplication of such pairs.
template <class V>
struct PairDot {
  using Term = int16_t;
  static constexpr size_t group = 2;
  static constexpr int flips = 0;

  static V load_units(const int8_t* p) { return V::widen(p); }
  static V add_products(V acc, V a, V b) { return add_bits(acc, multiply_pairs(a, b)); }

  static void zip(const int8_t* from, size_t stride, Bytes* units) {
    const Bytes a = load_bytes<V>(from), b = load_bytes<V>(from + stride);
    const Bytes low = zip_low<V>(a, b), high = zip_high<V>(a, b);
    units[0] = zip_low<V>(low, low < 0), units[1] = zip_high<V>(low, low < 0);  // with their signs: 16 bits
    units[2] = zip_low<V>(high, high < 0), units[3] = zip_high<V>(high, high < 0);
  }
};

}  // namespace kernels
