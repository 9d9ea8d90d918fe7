#include "model/rope_table.h"

#include <cmath>

#include "cpu/float_environment.h"

namespace kernels {
namespace {

struct CosSin {
  float cos, sin;
};

// Evaluated in binary64, rounded once to fp32 at the end.
CosSin cos_sin(float angle) {
  constexpr double two_over_pi = 0x1.45f306dc9c883p-1, half_pi_high = 0x1.921fb54442d18p+0,
                   half_pi_low = 0x1.1a62633145c07p-54, magic = 0x1.8p+52;
  const double x = static_cast<double>(angle);
  const double n = std::fma(x, two_over_pi, magic) - magic;
  const double r = std::fma(-n, half_pi_low, std::fma(-n, half_pi_high, x));
  const double z = r * r;
  // The reciprocals of factorials; the series' next terms are below 1e-15 for |r| <= pi / 4.
  constexpr double s[] = {-1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800.0,
                          -1.0 / 1307674368000.0};
  constexpr double c[] = {-1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600,
                          -1.0 / 87178291200.0};
  double p = s[6], q = c[6];
  for (int i = 5; i >= 0; --i) {
    p = std::fma(p, z, s[i]);
    q = std::fma(q, z, c[i]);
  }
  const auto sine = static_cast<float>(std::fma(r * z, p, r)), cosine = static_cast<float>(std::fma(z, q, 1.0));
  switch (static_cast<long long>(n) & 3) {
    case 0:
      return {cosine, sine};
    case 1:
      return {-sine, cosine};
    case 2:
      return {-cosine, -sine};
    default:
      return {sine, -cosine};
  }
}

}  // namespace

void fill_rope_table(std::span<const float> frequencies, size_t context, float* cos, float* sin) {
  const FloatEnvironment environment;
  for (size_t t = 0; t < context; ++t)
    for (size_t j = 0; j < frequencies.size(); ++j) {
      const CosSin value = cos_sin(static_cast<float>(t) * frequencies[j]);
      cos[t * frequencies.size() + j] = value.cos;
      sin[t * frequencies.size() + j] = value.sin;
    }
}

}  // namespace kernels
