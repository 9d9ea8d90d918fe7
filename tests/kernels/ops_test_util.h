// What the tests of operations share: random values, and the comparison of every engine with the definition.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine.h"
#include "kernels/ops.h"

namespace kernels::test {

using Values = std::vector<float>;

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}

  size_t between(size_t low, size_t high) { return std::uniform_int_distribution<size_t>(low, high)(engine_); }

  // Normal values, with some zeros of both signs, denormals and large ones.
  Values values(size_t count) {
    Values x(count);
    for (float& v : x) {
      v = normal_(engine_);
      switch (engine_() % 64) {
        case 0:
          v = 0.0f;
          break;
        case 1:
          v = -0.0f;
          break;
        case 2:
          v *= 0x1p-140f;
          break;
        case 3:
          v *= 100;
          break;
      }
    }
    return x;
  }

  std::vector<uint16_t> ids(size_t count, size_t vocabulary) {
    std::vector<uint16_t> x(count);
    for (uint16_t& id : x) id = static_cast<uint16_t>(between(0, vocabulary - 1));
    return x;
  }

 private:
  std::mt19937 engine_;
  std::normal_distribution<float> normal_;
};

// What a test program compares with the definition; each program has its own.
std::vector<Engine> engines_under_test();

// Those, after the definition.
inline const std::vector<Engine>& engines() {
  static const std::vector<Engine> all = [] {
    std::vector<Engine> engines;
    engines.push_back({"reference", make_reference_ops()});
    for (Engine& engine : engines_under_test()) engines.push_back(std::move(engine));
    return engines;
  }();
  return all;
}

// Runs `compute`, which returns all results of an operation, on every engine and compares the bits.
inline void expect_same(const std::string& what, const std::function<Values(Ops&)>& compute) {
  const Values expected = compute(*engines()[0].ops);
  for (size_t e = 1; e < engines().size(); ++e) {
    const Engine& engine = engines()[e];
    const Values got = compute(*engine.ops);
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_TRUE(std::memcmp(&got[i], &expected[i], sizeof(float)) == 0 ||
                  (got[i] != got[i] && expected[i] != expected[i]))
          << what << ", " << engine.name << ", element " << i << ": " << got[i] << " for " << expected[i];
    }
  }
}

// For results: what an operation leaves out is seen.
inline Values poisoned(size_t count) { return Values(count, std::numeric_limits<float>::quiet_NaN()); }

inline Values joined(std::initializer_list<Values> parts) {
  Values all;
  for (const Values& p : parts) all.insert(all.end(), p.begin(), p.end());
  return all;
}

}  // namespace kernels::test
