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

constexpr size_t block = 64;
constexpr float smallest_amax = 0x1p-100f;

size_t blocks_of(size_t count) { return (count + block - 1) / block; }

[[noreturn]] void refuse_payload(const std::string& reason) {
  throw std::invalid_argument("payload refused: " + reason);
}

// Encodes one block; nibbles are or-ed into `bytes`, whose first nibble belongs to x[0].
float encode_int4_block(const float* x, size_t n, uint8_t* bytes) {
  float amax = 0;
  for (size_t i = 0; i < n; ++i) amax = std::max(amax, std::fabs(x[i]));
  std::memset(bytes, 0, (n + 1) / 2);
  if (amax < smallest_amax) return 0;
  const float inverse = 7 / amax;
  for (size_t i = 0; i < n; ++i) {
    const float shifted = x[i] * inverse + math::round_magic;  // the integer stands in the low bits
    bytes[i / 2] |= static_cast<uint8_t>((std::bit_cast<uint32_t>(shifted) & 15) << (i % 2 * 4));
  }
  return amax / 7;
}

void encode_int4(std::span<const float> values, uint8_t* out) {
  const size_t blocks = blocks_of(values.size());
  uint8_t* nibbles = out + blocks * sizeof(float);
  for (size_t b = 0; b < blocks; ++b) {
    const size_t n = std::min(block, values.size() - b * block);
    const float scale = encode_int4_block(values.data() + b * block, n, nibbles + b * block / 2);
    std::memcpy(out + b * sizeof(float), &scale, sizeof scale);
  }
}

void decode_int4_block(float scale, const uint8_t* bytes, size_t first, std::span<float> out) {
  if (std::signbit(scale) || !std::isfinite(scale * 7)) {
    refuse_payload("the scale of elements from " + std::to_string(first) + " on is negative or not finite");
  }
  for (size_t i = 0; i < out.size(); ++i) {
    const int nibble = bytes[i / 2] >> (i % 2 * 4) & 15;
    if (nibble == 8) refuse_payload("element " + std::to_string(first + i) + " is -8");
    out[i] = static_cast<float>(nibble < 8 ? nibble : nibble - 16) * scale;
  }
}

void decode_int4(const uint8_t* payload, size_t count, size_t first, std::span<float> out) {
  const uint8_t* nibbles = payload + blocks_of(count) * sizeof(float);
  for (size_t done = 0; done < out.size(); done += block) {
    float scale;
    std::memcpy(&scale, payload + (first + done) / block * sizeof(float), sizeof scale);
    decode_int4_block(scale, nibbles + (first + done) / 2, first + done,
                      out.subspan(done, std::min(block, out.size() - done)));
  }
  if (count % 2 == 1 && first + out.size() == count && nibbles[count / 2] >> 4 != 0) {
    refuse_payload("the nibble after the last element is not 0");
  }
}

void decode_fp32(const uint8_t* payload, size_t first, std::span<float> out) {
  std::memcpy(out.data(), payload + first * sizeof(float), out.size_bytes());
  for (size_t i = 0; i < out.size(); ++i) {
    if (!std::isfinite(out[i])) refuse_payload("element " + std::to_string(first + i) + " is not finite");
  }
}

}  // namespace

size_t encoded_bytes(Codec codec, size_t count) {
  switch (codec) {
    case Codec::fp32:
      return count * sizeof(float);
    case Codec::int4:
      return blocks_of(count) * sizeof(float) + (count + 1) / 2;
  }
  throw std::invalid_argument("codec number " + std::to_string(static_cast<int>(codec)) + " is not known");
}

void encode(Codec codec, std::span<const float> values, std::span<uint8_t> out) {
  if (out.size() != encoded_bytes(codec, values.size())) throw std::invalid_argument("encode: wrong output size");
  const FloatEnvironment environment;
  if (codec == Codec::int4) {
    encode_int4(values, out.data());
  } else if (!values.empty()) {
    std::memcpy(out.data(), values.data(), values.size_bytes());
  }
}

void decode(Codec codec, std::span<const uint8_t> payload, size_t count, size_t first, std::span<float> out) {
  const size_t expected = encoded_bytes(codec, count);
  if (payload.size() != expected) {
    refuse_payload(std::to_string(payload.size()) + " bytes where " + std::to_string(expected) + " belong to " +
                   std::to_string(count) + " elements");
  }
  if (first % block != 0 || first > count || out.size() > count - first) {
    throw std::invalid_argument("decode: the range lies outside the payload or does not start at a block");
  }
  if (out.empty()) return;
  const FloatEnvironment environment;
  if (codec == Codec::int4) {
    decode_int4(payload.data(), count, first, out);
  } else {
    decode_fp32(payload.data(), first, out);
  }
}

}  // namespace kernels
