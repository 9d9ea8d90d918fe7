// The codecs by the CUDA kernels: the bytes of the host's.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "cuda/encode_args.h"
#include "cuda_host/shape.h"
#include "cuda_test_util.h"
#include "kernels/codec.h"
#include "simt_ops.h"

namespace kernels::cuda::test {
namespace {

constexpr Codec every_codec[] = {Codec::fp32, Codec::int4, Codec::int8};
constexpr float largest_float = std::numeric_limits<float>::max();
using Bytes = std::vector<uint8_t>;

Bytes by_host(Codec codec, std::span<const float> values) {
  Bytes payload(encoded_bytes(codec, values.size()));
  kernels::encode(codec, values, payload);
  return payload;
}

// Into bytes of another value, one of which stands behind each part and must stay.
Bytes by(Ops& ops, Codec codec, std::span<const float> values) {
  Bytes scales(scale_bytes(codec, values.size()) + 1, 0xa5), digits(digit_bytes(codec, values.size()) + 1, 0xa5);
  ops.encode({codec, values.size(), values.data(), scales.data(), digits.data()});
  EXPECT_EQ(scales.back(), 0xa5) << "behind the scales";
  EXPECT_EQ(digits.back(), 0xa5) << "behind the digits";
  scales.pop_back(), digits.pop_back();
  scales.insert(scales.end(), digits.begin(), digits.end());
  return scales;
}

// A block of 64 with x as its largest magnitude, and halves of its digits' steps: ties, or a bit beside them.
Values block_of(float x) {
  Values block = Random(8).values(64);
  for (float& value : block) value = std::clamp(value, -1.0f, 1.0f) * x;
  block[5] = x;
  for (const float steps : {7.0f, 127.0f}) {
    for (size_t i = 0; i < 6; ++i) {
      const float tie = x * ((static_cast<float>(i) - 2.5f) / steps);
      const float close[] = {tie, std::nextafter(tie, 0.0f), std::nextafter(tie, 2 * tie)};
      std::copy_n(close, 3, block.begin() + (steps == 7 ? 10 : 37) + static_cast<std::ptrdiff_t>(3 * i));
    }
  }
  return block;
}

// Blocks around every rule: amax that is 0, a denormal, at the bound below which a block is 0, at that of the scales.
Values directed() {
  Values all;
  for (const float x : {0.0f, -0.0f, 0x1p-149f, -0x1p-127f, 0x1p-126f, 0x1.fffffep-101f, 0x1p-100f, -0x1.000002p-100f,
                        1.0f, 7.0f, -127.0f, 0x1.fffffep-1f, 3.3f, 0x1p127f, -largest_float, largest_float}) {
    const Values block = block_of(x);
    all.insert(all.end(), block.begin(), block.end());
  }
  return all;
}

TEST(CudaEncode, GivesTheBytesOfTheHost) {
  const Values values = directed();
  for (const simt::Order order : both_orders) {
    kernels::test::SimtOps ops(order);
    for (const Codec codec : every_codec) EXPECT_EQ(by(ops, codec, values), by_host(codec, values));
  }
  EXPECT_EQ(by(*make_reference_ops(), Codec::int8, values), by_host(Codec::int8, values));
}

// Of digits 3 and 4 the even one; of a negative zero 0.
TEST(CudaEncode, TiesAndZeros) {
  kernels::test::SimtOps ops(simt::Order::upward);
  const Values values = {7, 3.5f, 2.5f, -0.5f, -1.5f, -0.0f, -7};
  EXPECT_EQ(by(ops, Codec::int4, values), (Bytes{0, 0, 0x80, 0x3f, 0x47, 0x02, 0x0e, 0x09}));
}

TEST(CudaEncode, AnySizeIsWritten) {
  const Values all = Random(5).values(300);
  for (const simt::Order order : both_orders) {
    kernels::test::SimtOps ops(order);
    for (const size_t count : {0, 1, 2, 31, 32, 33, 63, 64, 65, 95, 97, 127, 128, 129, 255, 256, 257, 300}) {
      const Values values(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count));  // ends where its memory ends
      for (const Codec codec : every_codec) EXPECT_EQ(by(ops, codec, values), by_host(codec, values)) << count;
    }
  }
}

// What the kernels do not write would show: poison is not what they write, and twice another.
TEST(CudaEncode, KernelsWriteEveryByteAndNoOther) {
  const Values values = Random(6).values(197);
  const size_t blocks = 4;
  for (const Codec codec : {Codec::int4, Codec::int8}) {
    const Bytes expected = by_host(codec, values);
    for (const uint8_t poison : {0x5a, 0xa5}) {
      simt::SimtLauncher device(simt::Order::downward, 2);
      Values scales(blocks + 1);
      std::memset(scales.data(), poison, scales.size() * sizeof(float));
      Bytes digits(digit_bytes(codec, values.size()) + 1, poison);
      const EncodeArgs args{
          .count = values.size(), .x = values.data(), .scales = scales.data(), .digits = digits.data()};
      launch(device, codec == Codec::int4 ? "encode_int4" : "encode_int8", warp_per_row(blocks), args);
      EXPECT_EQ(std::memcmp(scales.data(), expected.data(), blocks * sizeof(float)), 0);
      EXPECT_TRUE(std::equal(digits.begin(), digits.end() - 1, expected.begin() + blocks * sizeof(float)));
      EXPECT_EQ(reinterpret_cast<const uint8_t*>(&scales[blocks])[0], poison);
      EXPECT_EQ(digits.back(), poison);
    }
  }
}

TEST(CudaEncode, PartsGiveThePayloadOfTheWhole) {
  const Values values = Random(7).values(1000);
  kernels::test::SimtOps ops(simt::Order::upward);
  for (const Codec codec : every_codec) {
    Bytes payload(encoded_bytes(codec, values.size()));
    for (const auto& [first, end] : {std::pair<size_t, size_t>{704, 1000}, {0, 64}, {64, 704}}) {
      ops.encode({codec, end - first, values.data() + first, payload.data() + scale_bytes(codec, first),
                  payload.data() + scale_bytes(codec, values.size()) + digit_bytes(codec, first)});
    }
    EXPECT_EQ(payload, by_host(codec, values));
  }
}

// More than are made at once.
TEST(CudaEncode, ManyValues) {
  const Values values = Random(9).values((2 << 20) + 65);
  kernels::test::SimtOps ops(simt::Order::upward);
  for (const Codec codec : {Codec::int4, Codec::int8}) EXPECT_EQ(by(ops, codec, values), by_host(codec, values));
}

}  // namespace
}  // namespace kernels::cuda::test
