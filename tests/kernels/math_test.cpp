// The elementary functions' error bounds (docs/numerics.md section 2), the same bits from every path, and the portable
// path's fma where double rounding would go wrong.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <limits>
#include <random>
#include <vector>

#include "cpu/vector_portable.h"
#include "kernels/ops.h"
#include "math_paths.h"
#include "reference/elementary.h"

#if defined(__aarch64__)
#include "cpu/vector_neon.h"
#endif

namespace kernels {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();
constexpr float largest = std::numeric_limits<float>::max();

float float_of(uint64_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits)); }

bool same(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

// The floats around the places where a definition changes: exp's two ends, tanh's saturation, log's denormals, its
// reduction's edge and 1; and zero.
std::vector<float> edges() {
  std::vector<float> x;
  for (const float edge : {-87.0f, 0x1.62e42ep+6f, 10.0f, -10.0f, 0x1p-126f, 0x1.6a09e6p-1f, 1.0f}) {
    const uint32_t bits = std::bit_cast<uint32_t>(edge);
    for (uint32_t near = bits - 64; near <= bits + 64; ++near) x.push_back(float_of(near));
  }
  for (uint32_t tiny = 0; tiny < 64; ++tiny) {
    x.push_back(float_of(tiny));
    x.push_back(float_of(0x80000000u | tiny));
  }
  return x;
}

// Every exponent of both signs, zeros, denormals, infinities and NaN included, with 2,000 mantissas each.
std::vector<float> samples() {
  std::vector<float> x;
  std::mt19937 random(5);
  for (uint32_t exponent = 0; exponent < 512; ++exponent) {
    for (const uint32_t edge : {0u, 1u, 0x7ffffeu, 0x7fffffu}) x.push_back(float_of(exponent << 23 | edge));
    for (int i = 0; i < 1996; ++i) x.push_back(float_of(exponent << 23 | (random() & 0x7fffff)));
  }
  return x;
}

// Distance from the exact value in units of its last place.
long double error_in_ulp(float got, long double exact) {
  int exponent;
  std::frexp(exact, &exponent);
  return std::fabs(got - exact) / std::ldexp(1.0L, std::max(exponent - 24, -149));
}

template <class Got, class Exact>
void expect_bound(const char* name, double bound, const std::vector<float>& inputs, Got got, Exact exact) {
  long double worst = 0;
  float worst_input = 0;
  for (const float x : inputs) {
    const long double e = exact(static_cast<long double>(x));
    if (!(std::fabs(e) <= largest)) {
      EXPECT_TRUE(same(got(x), static_cast<float>(e))) << name << " of " << x;
      continue;
    }
    const long double error = error_in_ulp(got(x), e);
    if (!(error <= worst)) worst = error, worst_input = x;
  }
  std::printf("%s: at most %.3Lf ulp, at %a\n", name, worst, static_cast<double>(worst_input));
  EXPECT_LE(worst, bound) << name << " of " << worst_input;
}

std::vector<float> uniform(float low, float high, size_t count) {
  std::mt19937 random(6);
  std::uniform_real_distribution<float> distribution(low, high);
  std::vector<float> x(count);
  for (float& v : x) v = distribution(random);
  return x;
}

std::vector<float> with(std::vector<float> x, const std::vector<float>& more) {
  x.insert(x.end(), more.begin(), more.end());
  return x;
}

TEST(Elementary, ErrorBounds) {
  const auto exact_exp = [](long double x) { return x < -87 ? 0.0L : std::exp(x); };
  expect_bound("exp", 1.1, with(samples(), uniform(-87, 88.72f, 300000)), reference::exp, exact_exp);
  expect_bound("log", 0.9, with(samples(), uniform(0.5f, 2, 300000)), reference::log,
               [](long double x) { return std::log(x); });
  expect_bound("tanh", 2.6, with(samples(), uniform(0.02f, 1, 300000)), reference::tanh,
               [](long double x) { return std::tanh(x); });
}

TEST(Elementary, SpecialCases) {
  EXPECT_TRUE(same(reference::exp(-87.00001f), 0.0f));
  EXPECT_TRUE(same(reference::exp(-infinity), 0.0f));
  EXPECT_GT(reference::exp(-87.0f), 0x1p-126f);
  EXPECT_LT(reference::exp(0x1.62e42ep+6f), infinity);
  EXPECT_EQ(reference::exp(0x1.62e430p+6f), infinity);
  EXPECT_EQ(reference::exp(infinity), infinity);
  EXPECT_TRUE(std::isnan(reference::exp(nan_value)));
  EXPECT_EQ(reference::exp(0.0f), 1.0f);
  EXPECT_EQ(reference::exp(-0.0f), 1.0f);
  EXPECT_TRUE(same(reference::log(1.0f), 0.0f));
  EXPECT_EQ(reference::log(0.0f), -infinity);
  EXPECT_EQ(reference::log(-0.0f), -infinity);
  EXPECT_EQ(reference::log(infinity), infinity);
  EXPECT_TRUE(std::isnan(reference::log(-1.0f)));
  EXPECT_TRUE(std::isnan(reference::log(nan_value)));
  EXPECT_TRUE(same(reference::tanh(-0.0f), -0.0f));
  EXPECT_TRUE(same(reference::tanh(0x1p-149f), 0x1p-149f));
  EXPECT_EQ(reference::tanh(-infinity), -1.0f);
  EXPECT_TRUE(std::isnan(reference::tanh(nan_value)));
}

std::vector<MathPath> math_paths() {
  std::vector<MathPath> paths;
  for (const Simd simd : usable_simd()) {
#if defined(__x86_64__)
    if (simd == Simd::avx512 || simd == Simd::avx512vnni) paths.push_back(math_avx512());
    if (simd == Simd::avx2) paths.push_back(math_avx2());
#elif defined(__aarch64__)
    if (simd == Simd::neon) paths.push_back(math_path_of<Neon>());
#endif
    if (simd == Simd::portable) paths.push_back(math_path_of<Portable>());
  }
  return paths;
}

// Lanes of vectors against the scalar definition.
TEST(Elementary, EveryPathHasTheSameBits) {
  const std::vector<float> inputs = with(with(samples(), edges()), uniform(-90, 90, 200000));
  const std::vector<MathPath> paths = math_paths();
  EXPECT_EQ(paths.size(), usable_simd().size());
  for (const MathPath& path : paths) {
    for (size_t i = 0; i + path.width <= inputs.size(); i += path.width) {
      float e[16], t[16];
      ASSERT_LE(path.width, std::size(e));
      for (size_t l = 0; l < path.width; ++l) e[l] = t[l] = inputs[i + l];
      path.exp(e);
      path.tanh(t);
      for (size_t l = 0; l < path.width; ++l) {
        const float x = inputs[i + l];
        ASSERT_TRUE(same(e[l], reference::exp(x))) << path.name << " exp " << x;
        ASSERT_TRUE(same(t[l], reference::tanh(x))) << path.name << " tanh " << x;
        ASSERT_TRUE(same(path.log(x), reference::log(x))) << path.name << " log " << x;
      }
    }
  }
}

struct Triple {
  float a, b, c;
};

// Fourfold, with the four lanes in different company, so that a mix-up of lanes shows.
void expect_fma(const std::vector<Triple>& cases) {
  for (size_t i = 0; i < cases.size(); ++i) {
    float a[4], b[4], c[4], got[4];
    for (size_t l = 0; l < 4; ++l) {
      const Triple& t = cases[(i + l) % cases.size()];
      a[l] = t.a, b[l] = t.b, c[l] = t.c;
    }
    fma(Portable::load(a), Portable::load(b), Portable::load(c)).store(got);
    for (size_t l = 0; l < 4; ++l) {
      const float expected = std::fma(a[l], b[l], c[l]);
      ASSERT_TRUE(same(got[l], expected))
          << std::hexfloat << a[l] << " * " << b[l] << " + " << c[l] << " = " << expected << ", not " << got[l];
    }
  }
}

// Sums just beside a midpoint of two floats, by less than binary64 can hold: c + half a unit of c, times 1 - tiny.
std::vector<Triple> beside_midpoints(float scale) {
  std::vector<Triple> cases;
  std::mt19937 random(7);
  for (int i = 0; i < 4000; ++i) {
    const float c = scale * (1 + 0x1p-23f * static_cast<float>(random() % 0x800000));
    const float tiny = 0x1p-23f * static_cast<float>(1 + random() % 60);
    const float half = 0x1p-12f * (1 + tiny), other = 0x1p-12f * (1 - tiny) * scale;
    for (const float sign : {1.0f, -1.0f}) {
      cases.push_back({half, sign * other, c});
      cases.push_back({half, sign * other, -c});
      cases.push_back({0x1p-12f, sign * 0x1p-12f * scale, c});  // exact ties
    }
  }
  return cases;
}

TEST(PortableFma, BesideMidpoints) {
  for (const float scale : {1.0f, 0x1p100f, 0x1p-90f}) {
    const auto cases = beside_midpoints(scale);
    expect_fma(cases);
    size_t caught = 0;  // the cases are there to be got wrong by rounding twice
    for (const Triple& t : cases) {
      caught += static_cast<float>(static_cast<double>(t.a) * t.b + t.c) != std::fma(t.a, t.b, t.c);
    }
    EXPECT_GT(caught, cases.size() / 10);
  }
}

TEST(PortableFma, DenormalResults) {
  std::vector<Triple> cases;
  std::mt19937 random(8);
  for (int i = 0; i < 4000; ++i) {
    const float c = 0x1p-149f * static_cast<float>(random() % 0x800000);
    const float tiny = 0x1p-23f * static_cast<float>(random() % 60);
    for (const float sign : {1.0f, -1.0f}) {
      cases.push_back({0x1p-75f * (1 + tiny), sign * 0x1p-75f * (1 - tiny), c});
      cases.push_back({0x1p-75f * (1 + tiny), sign * 0x1p-75f * (1 - tiny), -c});
      cases.push_back({0x1p-75f * (1 + tiny), sign * 0x1p-76f, 0});
    }
  }
  expect_fma(cases);
}

TEST(PortableFma, ZerosInfinitiesAndOverflow) {
  std::vector<Triple> cases;
  const float values[] = {0.0f,     -0.0f,     1.0f,      -1.0f,     0x1p-149f, -0x1p-149f, largest,        -largest,
                          infinity, -infinity, nan_value, 0x1p-126f, 0x1p103f,  -0x1p103f,  0x1.fffffep102f};
  for (const float a : values) {
    for (const float b : values) {
      for (const float c : values) cases.push_back({a, b, c});
    }
  }
  cases.push_back({0x1.000002p51f, 0x1.fffffcp51f, largest});  // just below the midpoint that overflows
  expect_fma(cases);
}

TEST(PortableFma, RandomBits) {
  std::mt19937 random(9);
  const auto any = [&] { return float_of(random()); };
  const auto near_one = [&] { return float_of(0x3f000000u + (random() & 0x1ffffff)); };
  std::vector<Triple> cases;
  for (int i = 0; i < 200000; ++i) {
    cases.push_back({any(), any(), any()});
    const float a = near_one(), b = near_one();
    cases.push_back({a, b, near_one() * std::exp2(static_cast<float>(random() % 80) - 40)});
    cases.push_back({a, b, -a * b});
  }
  expect_fma(cases);
}

}  // namespace
}  // namespace kernels
