#include "kernels/codec.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
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

struct BlockCodec {
  Codec codec;
  int largest;
};
constexpr BlockCodec block_codecs[] = {{Codec::int4, 7}, {Codec::int8, 127}};

float scale_at(const std::vector<uint8_t>& payload, size_t number) {
  float scale;
  std::memcpy(&scale, &payload[number * 4], 4);
  return scale;
}

void set_scale(std::vector<uint8_t>& payload, size_t number, float scale) {
  std::memcpy(&payload[number * 4], &scale, 4);
}

// The rule stated once more, with the library's rounding instead of ours.
TEST(Codec, BlocksFollowTheirDefinition) {
  for (const auto& [codec, largest] : block_codecs) {
    for (const size_t count : {1, 2, 63, 64, 65, 127, 1000}) {
      SCOPED_TRACE(std::to_string(largest) + ", " + std::to_string(count) + " elements");
      const auto values = random_values(count, static_cast<uint32_t>(count));
      const auto payload = encoded(codec, values);
      const size_t blocks = (count + 63) / 64;
      ASSERT_EQ(payload.size(), blocks * 4 + (codec == Codec::int4 ? (count + 1) / 2 : count));
      const auto back = decoded(codec, payload, count);
      for (size_t i = 0; i < count; ++i) {
        float amax = 0;
        for (size_t j = i / 64 * 64; j < std::min(count, i / 64 * 64 + 64); ++j)
          amax = std::max(amax, std::abs(values[j]));
        const float q = std::nearbyint(values[i] * (static_cast<float>(largest) / amax));
        const float scale = amax / static_cast<float>(largest);
        EXPECT_EQ(scale_at(payload, i / 64), scale);
        const int found =
            codec == Codec::int4 ? payload[blocks * 4 + i / 2] >> (i % 2 ? 4 : 0) & 15 : payload[blocks * 4 + i];
        EXPECT_EQ(found, static_cast<int>(q) & (codec == Codec::int4 ? 15 : 255));
        EXPECT_EQ(back[i], q * scale);
      }
    }
  }
}

// 1 / 127 is 0x3c010204; -0.5 and 0.25 are -63.5 and 31.75 of it. The second block is a single element.
TEST(Codec, Int8ByHand) {
  std::vector<float> values(65, 0.0f);
  values[0] = 1, values[1] = -0.5f, values[2] = 0.25f, values[3] = -1, values[64] = -254;
  std::vector<uint8_t> expected = {0x04, 0x02, 0x01, 0x3c, 0, 0, 0, 0x40, 0x7f, 0xc0, 0x20, 0x81};
  expected.resize(8 + 65);
  expected[8 + 64] = 0x81;
  EXPECT_EQ(encoded(Codec::int8, values), expected);
  const auto back = decoded(Codec::int8, expected, 65);
  EXPECT_EQ(back[0], 127 * 0x1.020408p-7f);
  EXPECT_EQ(back[1], -64 * 0x1.020408p-7f);
  EXPECT_EQ(back[5], 0);
  EXPECT_EQ(back[64], -254);
}

TEST(Codec, BlocksRoundTiesToEven) {
  for (const auto& [codec, largest] : block_codecs) {
    const auto end = static_cast<float>(largest);  // odd, so end - 0.5 is rounded down
    const std::vector<float> values = {end, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 0.5f - end, -end};
    const std::vector<float> expected = {end, 0, 2, 2, 0, -2, -2, 1 - end, -end};
    EXPECT_EQ(decoded(codec, encoded(codec, values), values.size()), expected);
  }
}

TEST(Codec, TinyBlocksBecomeZero) {
  for (const auto& [codec, largest] : block_codecs) {
    std::vector<float> values(66, 0x1.fffffep-101f);
    values[1] = 0x1p-149f;
    values[64] = 0x1p-100f;
    values[65] = -0x1p-126f;  // denormal digits of a block that is not tiny are 0
    const auto payload = encoded(codec, values);
    EXPECT_EQ(scale_at(payload, 0), 0.0f);
    EXPECT_EQ(scale_at(payload, 1), 0x1p-100f / static_cast<float>(largest));
    const auto back = decoded(codec, payload, 66);
    for (size_t i = 0; i < 64; ++i) EXPECT_EQ(back[i], 0.0f);
    EXPECT_FLOAT_EQ(back[64], 0x1p-100f);
    EXPECT_EQ(back[65], 0.0f);
  }
}

TEST(Codec, DenormalScalesDecode) {
  for (const auto& [codec, largest] : block_codecs) {
    auto payload = encoded(codec, {static_cast<float>(largest), -3});
    set_scale(payload, 0, 0x1p-149f);
    const std::vector<float> expected = {std::ldexp(static_cast<float>(largest), -149), std::ldexp(-3.0f, -149)};
    EXPECT_EQ(decoded(codec, payload, 2), expected);
  }
}

TEST(Codec, WhatIsEncodedDecodesUpToTheLargestValues) {
  for (const auto& [codec, largest] : block_codecs) {
    float value = std::numeric_limits<float>::max();
    for (int i = 0; i < 1000; ++i, value = std::nextafter(value, 0.0f)) {
      const auto back = decoded(codec, encoded(codec, {value, -value}), 2);
      EXPECT_TRUE(std::isfinite(back[0]));
      EXPECT_FLOAT_EQ(back[0], value);
      EXPECT_EQ(back[1], -back[0]);
    }
  }
  const float most = std::numeric_limits<float>::max();
  EXPECT_EQ(scale_at(encoded(Codec::int4, {most}), 0), most / 7);
  EXPECT_EQ(scale_at(encoded(Codec::int8, {most}), 0), 0x1.020406p121f);  // 127 of the next would be infinite
  EXPECT_EQ(most / 127, 0x1.020408p121f);
}

TEST(Codec, DecodesRanges) {
  const auto values = random_values(300, 7);
  for (const Codec codec : {Codec::fp32, Codec::int4, Codec::int8}) {
    const auto payload = encoded(codec, values);
    const auto whole = decoded(codec, payload, 300);
    std::vector<float> part(75);
    decode(codec, payload, 300, 128, part);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 128));
    EXPECT_THROW(decode(codec, payload, 300, 1, part), std::invalid_argument);
    EXPECT_THROW(decode(codec, payload, 300, 256, part), std::invalid_argument);
  }
}

// The payload of some elements lies in that of all where scale_bytes() and digit_bytes() say.
TEST(Codec, PiecesLieWhereTheirSizesSay) {
  const auto values = random_values(331, 8);
  for (const Codec codec : {Codec::fp32, Codec::int4, Codec::int8}) {
    const auto whole = encoded(codec, values);
    std::vector<uint8_t> joined(whole.size());
    for (size_t first = 0; first < values.size(); first += 128) {
      const size_t n = std::min<size_t>(128, values.size() - first);
      const auto piece = encoded(codec, {values.begin() + first, values.begin() + first + n});
      const size_t scales = scale_bytes(codec, n);
      ASSERT_EQ(piece.size(), scales + digit_bytes(codec, n));
      std::copy_n(piece.begin(), scales, joined.begin() + scale_bytes(codec, first));
      std::copy(piece.begin() + scales, piece.end(),
                joined.begin() + scale_bytes(codec, values.size()) + digit_bytes(codec, first));
    }
    EXPECT_EQ(joined, whole);
  }
}

TEST(Codec, RefusesBadInt4) {
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
}

TEST(Codec, RefusesBadInt8) {
  const auto good = encoded(Codec::int8, random_values(67, 1));
  EXPECT_THROW(decoded(Codec::int8, good, 66), std::invalid_argument);
  EXPECT_THROW(decoded(Codec::int8, good, 68), std::invalid_argument);
  for (const size_t element : {0, 31, 63, 64, 66}) {
    auto payload = good;
    payload[8 + element] = 0x80;  // -128
    EXPECT_THROW(decoded(Codec::int8, payload, 67), std::invalid_argument) << "element " << element;
  }
}

TEST(Codec, RefusesBadScales) {
  constexpr float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const auto with_scale = [](Codec codec, size_t number, float scale) {
    auto payload = encoded(codec, random_values(65, 1));
    set_scale(payload, number, scale);
    return decoded(codec, payload, 65);
  };
  for (const auto& [codec, largest] : block_codecs) {
    const float most = codec == Codec::int4 ? 0x1.249248p125f : 0x1.020406p121f;
    for (const size_t number : {0, 1}) {
      EXPECT_TRUE(std::isfinite(static_cast<float>(largest) * most));
      EXPECT_NO_THROW(with_scale(codec, number, most));
      EXPECT_NO_THROW(with_scale(codec, number, 0));
      for (const float bad : {std::nextafter(most, infinity), infinity, nan, -nan, -infinity, -1.0f, -0.0f})
        EXPECT_THROW(with_scale(codec, number, bad), std::invalid_argument) << bad;
    }
  }
}

TEST(Codec, RefusesInfinityAndUnknownCodecs) {
  auto infinite = encoded(Codec::fp32, {1.0f, 2.0f});
  infinite[7] = 0x7f, infinite[6] = 0x80;
  EXPECT_THROW(decoded(Codec::fp32, infinite, 2), std::invalid_argument);
  EXPECT_THROW(encoded_bytes(static_cast<Codec>(4), 1), std::invalid_argument);
}

}  // namespace
}  // namespace kernels
