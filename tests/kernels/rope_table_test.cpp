// The table of LLaMA's rotation is right.
#include "model/rope_table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace kernels {
namespace {

using Values = std::vector<float>;

// Cosine and sine of the rounded angle, each rounded once: against long double, to its own error.
TEST(RopeTable, IsCorrectlyRounded) {
  const Values frequencies = {1, 0.7071f, 0.1f, 0x1.8p-9f, 0};
  const size_t context = 1 << 17;
  Values cos(context * frequencies.size()), sin(cos.size());
  fill_rope_table(frequencies, context, cos.data(), sin.data());
  size_t other = 0;  // rounded the other way, where the exact value lies almost between two floats
  for (size_t i = 0; i < cos.size(); ++i) {
    const float angle = static_cast<float>(i / frequencies.size()) * frequencies[i % frequencies.size()];
    const auto c = std::cos(static_cast<long double>(angle)), s = std::sin(static_cast<long double>(angle));
    other += cos[i] != static_cast<float>(c);
    other += sin[i] != static_cast<float>(s);
    ASSERT_NEAR(cos[i], c, 0x1p-25 + 1e-13) << angle;
    ASSERT_NEAR(sin[i], s, 0x1p-25 + 1e-13) << angle;
  }
  EXPECT_LE(other, 2u);
}

TEST(RopeTable, StartsUnrotated) {
  const Values frequencies = {1, 0.25f};
  Values cos(2), sin(2);
  fill_rope_table(frequencies, 1, cos.data(), sin.data());
  EXPECT_EQ(cos, (Values{1, 1}));
  EXPECT_EQ(sin, (Values{0, 0}));
}

}  // namespace
}  // namespace kernels
