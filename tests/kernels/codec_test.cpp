#include "kernels/codec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace kernels {
namespace {

std::vector<uint8_t> encoded(Codec codec, const std::vector<float>& values) {
  std::vector<uint8_t> out(encoded_bytes(codec, values.size()));
  encode(codec, values, out);
  return out;
}

std::vector<float> decoded(Codec codec, const std::vector<uint8_t>& payload, size_t count) {
  std::vector<float> out(count);
  decode(codec, payload, count, 0, out);
  return out;
}

std::vector<float> random_values(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& v : values) v = normal(random) * std::exp2(static_cast<float>(random() % 40) - 20);
  return values;
}

TEST(Codec, Fp32KeepsEveryBit) {
  const std::vector<float> values = {0.0f, -0.0f, 1.5f, -0x1p-149f, 0x1.fffffep127f};
  const auto payload = encoded(Codec::fp32, values);
  EXPECT_EQ(payload.size(), 20u);
  EXPECT_EQ(payload[11], 0x3f);  // 1.5f is 3fc00000, the last byte last
  const auto back = decoded(Codec::fp32, payload, values.size());
  EXPECT_EQ(std::memcmp(back.data(), values.data(), 20), 0);
}

// The rule stated once more, with the library's rounding instead of ours.
TEST(Codec, Int4FollowsItsDefinition) {
  for (const size_t count : {1, 2, 63, 64, 65, 127, 1000}) {
    const auto values = random_values(count, static_cast<uint32_t>(count));
    const auto payload = encoded(Codec::int4, values);
    const size_t blocks = (count + 63) / 64;
    ASSERT_EQ(payload.size(), blocks * 4 + (count + 1) / 2);
    const auto back = decoded(Codec::int4, payload, count);
    for (size_t i = 0; i < count; ++i) {
      float amax = 0;
      for (size_t j = i / 64 * 64; j < std::min(count, i / 64 * 64 + 64); ++j)
        amax = std::max(amax, std::abs(values[j]));
      const float q = std::nearbyint(values[i] * (7 / amax));
      const float scale = amax / 7;
      float stored;
      std::memcpy(&stored, &payload[i / 64 * 4], 4);
      EXPECT_EQ(stored, scale);
      const int nibble = payload[blocks * 4 + i / 2] >> (i % 2 ? 4 : 0) & 15;
      EXPECT_EQ(nibble, static_cast<int>(q) & 15);
      EXPECT_EQ(back[i], q * scale);
    }
  }
}

TEST(Codec, Int4RoundsTiesToEven) {
  const std::vector<float> values = {7, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, -7};
  const std::vector<float> expected = {7, 0, 2, 2, 0, -2, -2, -7};
  EXPECT_EQ(decoded(Codec::int4, encoded(Codec::int4, values), 8), expected);
}

TEST(Codec, Int4TinyBlocksBecomeZero) {
  std::vector<float> values(65, 0x1.fffffep-101f);
  values[64] = 0x1p-100f;
  const auto payload = encoded(Codec::int4, values);
  const auto back = decoded(Codec::int4, payload, 65);
  EXPECT_EQ(back[0], 0.0f);
  EXPECT_FLOAT_EQ(back[64], 0x1p-100f);
}

TEST(Codec, Int4DecodesTheLargestValues) {
  const std::vector<float> values = {std::numeric_limits<float>::max(), -std::numeric_limits<float>::max()};
  EXPECT_EQ(decoded(Codec::int4, encoded(Codec::int4, values), 2), values);
}

TEST(Codec, DecodesRanges) {
  const auto values = random_values(300, 7);
  for (const Codec codec : {Codec::fp32, Codec::int4}) {
    const auto payload = encoded(codec, values);
    const auto whole = decoded(codec, payload, 300);
    std::vector<float> part(75);
    decode(codec, payload, 300, 128, part);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 128));
    EXPECT_THROW(decode(codec, payload, 300, 1, part), std::invalid_argument);
    EXPECT_THROW(decode(codec, payload, 300, 256, part), std::invalid_argument);
  }
}

TEST(Codec, RefusesBadPayloads) {
  const auto good = encoded(Codec::int4, random_values(65, 1));
  const auto refuses = [](std::vector<uint8_t> payload, size_t byte, uint8_t value) {
    payload[byte] = value;
    EXPECT_THROW(decoded(Codec::int4, payload, 65), std::invalid_argument) << "byte " << byte;
  };
  EXPECT_THROW(decoded(Codec::int4, good, 64), std::invalid_argument);
  EXPECT_THROW(decoded(Codec::int4, good, 67), std::invalid_argument);
  refuses(good, 8, 0x18);   // element 0 is -8
  refuses(good, 8, 0x81);   // element 1 is -8
  refuses(good, 40, 0x10);  // a nibble behind the last element
  refuses(good, 3, 0xbf);   // a negative scale
  refuses(good, 3, 0x7f);   // so large that 7 * scale is not finite
  auto infinite = encoded(Codec::fp32, {1.0f, 2.0f});
  infinite[7] = 0x7f, infinite[6] = 0x80;
  EXPECT_THROW(decoded(Codec::fp32, infinite, 2), std::invalid_argument);
  EXPECT_THROW(encoded_bytes(static_cast<Codec>(3), 1), std::invalid_argument);
}

}  // namespace
}  // namespace kernels
