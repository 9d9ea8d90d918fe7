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

}  // namespace simt
