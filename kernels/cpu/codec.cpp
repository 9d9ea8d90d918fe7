#include "kernels/codec.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "cpu/float_environment.h"
#include "cpu/math_constants.h"

namespace kernels {
namespace {

static_assert(std::endian::native == std::endian::little, "payloads are little-endian");

static_assert(codec_block == math::codec_block);

size_t blocks_of(size_t count) { return (count + codec_block - 1) / codec_block; }

[[noreturn]] void refuse_payload(const std::string& reason) {
  throw std::invalid_argument("payload refused: " + reason);
}

struct Int4 : math::Int4Range {
  static size_t bytes(size_t count) { return (count + 1) / 2; }
  static int get(const uint8_t* digits, size_t i) {
    const int nibble = digits[i / 2] >> (i % 2 * 4) & 15;
    return nibble < 8 ? nibble : nibble - 16;
  }
  // Into zeros; q's low bits count.
  static void put(uint8_t* digits, size_t i, uint32_t q) {
    digits[i / 2] |= static_cast<uint8_t>((q & 15) << (i % 2 * 4));
  }
};

struct Int8 : math::Int8Range {
  static size_t bytes(size_t count) { return count; }
  static int get(const uint8_t* digits, size_t i) { return static_cast<int8_t>(digits[i]); }
  static void put(uint8_t* digits, size_t i, uint32_t q) { digits[i] = static_cast<uint8_t>(q); }
};

// Returns the scale.
template <class Digits>
float encode_block(std::span<const float> x, uint8_t* digits) {
  float amax = 0;
  for (const float value : x) amax = std::max(amax, std::fabs(value));
  std::memset(digits, 0, Digits::bytes(x.size()));
  if (amax < math::codec_smallest_amax) return 0;
  const float inverse = Digits::largest / amax;
  for (size_t i = 0; i < x.size(); ++i) {
    const float shifted = x[i] * inverse + math::round_magic;  // the integer stands in the low bits
    Digits::put(digits, i, std::bit_cast<uint32_t>(shifted));
  }
  return std::min(amax / Digits::largest, Digits::largest_scale);
}

template <class Digits>
void encode_blocks(std::span<const float> values, uint8_t* scales, uint8_t* digits) {
  for (size_t b = 0; b < blocks_of(values.size()); ++b) {
    const auto x = values.subspan(b * codec_block, std::min(codec_block, values.size() - b * codec_block));
    const float scale = encode_block<Digits>(x, digits + Digits::bytes(b * codec_block));
    std::memcpy(scales + b * sizeof(float), &scale, sizeof scale);
  }
}

template <class Digits>
void decode_block(float scale, const uint8_t* digits, size_t first, std::span<float> out) {
  if (std::signbit(scale) || !(scale <= Digits::largest_scale)) {
    refuse_payload("the scale of elements from " + std::to_string(first) + " on is negative or not finite");
  }
  int lowest = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const int q = Digits::get(digits, i);
    lowest = std::min(lowest, q);
    out[i] = static_cast<float>(q) * scale;
  }
  if (lowest < -Digits::largest) {
    refuse_payload("one of the elements from " + std::to_string(first) + " on is " + std::to_string(lowest));
  }
}

template <class Digits>
void decode_blocks(const uint8_t* payload, size_t count, size_t first, std::span<float> out) {
  const uint8_t* digits = payload + blocks_of(count) * sizeof(float);
  for (size_t done = 0; done < out.size(); done += codec_block) {
    float scale;
    std::memcpy(&scale, payload + (first + done) / codec_block * sizeof(float), sizeof scale);
    decode_block<Digits>(scale, digits + Digits::bytes(first + done), first + done,
                         out.subspan(done, std::min(codec_block, out.size() - done)));
  }
}

void refuse_last_nibble(std::span<const uint8_t> payload, size_t count) {
  if (count % 2 == 1 && payload.back() >> 4 != 0) refuse_payload("the nibble after the last element is not 0");
}

void decode_fp32(const uint8_t* payload, size_t first, std::span<float> out) {
  std::memcpy(out.data(), payload + first * sizeof(float), out.size_bytes());
  for (size_t i = 0; i < out.size(); ++i) {
    if (!std::isfinite(out[i])) refuse_payload("element " + std::to_string(first + i) + " is not finite");
  }
}

}  // namespace

size_t scale_bytes(Codec codec, size_t count) { return codec == Codec::fp32 ? 0 : blocks_of(count) * sizeof(float); }

size_t digit_bytes(Codec codec, size_t count) {
  switch (codec) {
    case Codec::fp32:
      return count * sizeof(float);
    case Codec::int4:
      return Int4::bytes(count);
    case Codec::int8:
      return Int8::bytes(count);
  }
  throw std::invalid_argument("codec number " + std::to_string(static_cast<int>(codec)) + " is not known");
}

size_t encoded_bytes(Codec codec, size_t count) { return scale_bytes(codec, count) + digit_bytes(codec, count); }

void encode(Codec codec, std::span<const float> values, uint8_t* scales, uint8_t* digits) {
  const FloatEnvironment environment;
  if (values.empty()) return;
  switch (codec) {
    case Codec::fp32:
      std::memcpy(digits, values.data(), values.size_bytes());
      break;
    case Codec::int4:
      encode_blocks<Int4>(values, scales, digits);
      break;
    case Codec::int8:
      encode_blocks<Int8>(values, scales, digits);
      break;
  }
}

void encode(Codec codec, std::span<const float> values, std::span<uint8_t> out) {
  if (out.size() != encoded_bytes(codec, values.size())) throw std::invalid_argument("encode: wrong output size");
  encode(codec, values, out.data(), out.data() + scale_bytes(codec, values.size()));
}

void decode(Codec codec, std::span<const uint8_t> payload, size_t count, size_t first, std::span<float> out) {
  const size_t expected = encoded_bytes(codec, count);
  if (payload.size() != expected) {
    refuse_payload(std::to_string(payload.size()) + " bytes where " + std::to_string(expected) + " belong to " +
                   std::to_string(count) + " elements");
  }
  if (first % codec_block != 0 || first > count || out.size() > count - first) {
    throw std::invalid_argument("decode: the range lies outside the payload or does not start at a block");
  }
  if (out.empty()) return;
  const FloatEnvironment environment;
  switch (codec) {
    case Codec::fp32:
      decode_fp32(payload.data(), first, out);
      break;
    case Codec::int4:
      decode_blocks<Int4>(payload.data(), count, first, out);
      if (first + out.size() == count) refuse_last_nibble(payload, count);
      break;
    case Codec::int8:
      decode_blocks<Int8>(payload.data(), count, first, out);
      break;
  }
}

}  // namespace kernels
