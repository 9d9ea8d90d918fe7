#include "reference/elementary.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "cpu/math_constants.h"

namespace kernels::reference {
namespace {

using namespace kernels::math;

constexpr float infinity = std::numeric_limits<float>::infinity();

// Unsigned, so that additions and shifts wrap.
uint32_t bits(float x) { return std::bit_cast<uint32_t>(x); }
float float_of_bits(uint32_t b) { return std::bit_cast<float>(b); }

// p = exp(x − n·ln 2) − 1; the integer n stands in the low bits of t.
struct Reduced {
  float t, p;
};

Reduced reduce(float x) {
  const float t = std::fma(x, log2_e, round_magic);
  const float n = t - round_magic;
  float r = std::fma(-n, ln2_high, x);
  r = std::fma(-n, ln2_low, r);
  float q = std::fma(exp_poly[4], r, exp_poly[3]);
  q = std::fma(q, r, exp_poly[2]);
  q = std::fma(q, r, exp_poly[1]);
  q = std::fma(q, r, exp_poly[0]);
  return {t, std::fma(r * r, q, r)};
}

}  // namespace

float exp(float x) {
  const auto [t, p] = reduce(x);
  const float e = 1.0f + p;
  float y = float_of_bits(bits(e) + (bits(t) << 23));
  if (x < exp_lowest) y = 0.0f;
  if (!(x <= exp_highest)) y = x + infinity;
  return y;
}

float tanh(float x) {
  float a = std::fabs(x);
  if (a > tanh_saturation) a = tanh_saturation;
  const auto [t, p] = reduce(a + a);
  const float s = float_of_bits((bits(t) << 23) + 0x3f800000u);
  const float h = std::fma(p, s, s - 1.0f);
  const float y = h / (h + 2.0f);
  return std::copysign(y, x);
}

float log(float x) {
  const bool small = x < smallest_normal;
  const float v = small ? x * 0x1p+23f : x;
  const int32_t k0 = small ? -23 : 0;
  const int32_t k = static_cast<int32_t>(bits(v) - static_cast<uint32_t>(sqrt_half_bits)) >> 23;
  const float f = float_of_bits(bits(v) - (static_cast<uint32_t>(k) << 23)) - 1.0f;
  const float d = static_cast<float>(k + k0);
  const float s = f / (2.0f + f);
  const float z = s * s;
  const float r = std::fma(std::fma(log_poly[2], z, log_poly[1]), z, log_poly[0]) * z;
  const float h = (0.5f * f) * f;
  const float w = std::fma(s, h + r, d * ln2_low);
  float y = std::fma(d, ln2_high, f - (h - w));
  if (x == 0) y = -infinity;
  if (x == infinity) y = infinity;
  if (!(x >= 0)) y = std::numeric_limits<float>::quiet_NaN();
  return y;
}

}  // namespace kernels::reference
