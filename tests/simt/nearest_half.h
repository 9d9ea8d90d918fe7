// 16-bit floats by their definition: what halves.cuh and mma.cpp are compared with.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace simt {

struct HalfFormat {
  int significand_bits;  // with the leading one
  int lowest;            // the smallest unit is 2^lowest
  double largest;

  int fraction_bits() const { return significand_bits - 1; }
  int lowest_exponent() const { return lowest + fraction_bits(); }  // of numbers with a leading one
};
constexpr HalfFormat bf16_format{8, -133, 0x1.fep127}, fp16_format{11, -24, 65504};

// The nearest number of the format, ties to even; x is no NaN.
inline double nearest_half(float x, const HalfFormat& format) {
  int exponent = 0;
  std::frexp(x, &exponent);
  const double unit = std::ldexp(1, std::max(exponent - format.significand_bits, format.lowest));
  const double y = std::nearbyint(static_cast<double>(x) / unit) * unit;
  return std::abs(y) > format.largest ? std::copysign(INFINITY, y) : y;
}

// The bits of a number of the format, and the number of bits: sign, exponent, fraction.
inline uint16_t half_bits(double number, const HalfFormat& format) {
  const int sign = std::signbit(number) ? 0x8000 : 0, fraction_bits = format.fraction_bits();
  const double x = std::abs(number);
  if (std::isnan(x)) return 0x7fff;
  if (std::isinf(x)) return static_cast<uint16_t>(sign | (0x7fff >> fraction_bits << fraction_bits));
  const int exponent = std::max(x == 0 ? format.lowest_exponent() : std::ilogb(x), format.lowest_exponent());
  const int significand = static_cast<int>(std::ldexp(x, fraction_bits - exponent));
  return static_cast<uint16_t>(sign | (significand + ((exponent - format.lowest_exponent()) << fraction_bits)));
}

inline double half_number(uint16_t bits, const HalfFormat& format) {
  const int fraction_bits = format.fraction_bits(), field = (bits & 0x7fff) >> fraction_bits;
  const int fraction = bits & ((1 << fraction_bits) - 1);
  double x =
      std::ldexp(field == 0 ? fraction : fraction + (1 << fraction_bits), format.lowest + std::max(field - 1, 0));
  if (field == 0x7fff >> fraction_bits) x = fraction == 0 ? INFINITY : NAN;
  return bits >> 15 ? -x : x;
}

}  // namespace simt
