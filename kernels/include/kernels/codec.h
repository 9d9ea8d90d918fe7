// Encoding of a flat fp32 vector, docs/numerics.md section 7. The payload only: blob headers are the protocol's.
// int4 and int8 payloads: ceil(count / 64) fp32 scales, then digits in two's complement. int4: ceil(count / 2) bytes,
// element 2i in the low nibble of byte i, a missing last element being 0. int8: count bytes, element i in byte i.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace kernels {

enum class Codec : uint16_t { fp32 = 1, int4 = 2, int8 = 3 };

constexpr size_t codec_block = 64;  // elements that share a scale

// A payload of `count` elements is scale_bytes (0 for fp32) and then digit_bytes (for fp32 the values) long. Those of
// elements from `first` on, a multiple of codec_block, begin scale_bytes(codec, first) and digit_bytes(codec, first)
// into either. digit_bytes() and encoded_bytes() throw std::invalid_argument for a codec that is none.
size_t scale_bytes(Codec codec, size_t count);
size_t digit_bytes(Codec codec, size_t count);
size_t encoded_bytes(Codec codec, size_t count);  // both

// out: encoded_bytes(codec, values.size()). Values must be finite (check first), and then decode() takes the result;
// single-threaded. Or the two parts of the payload, each to its own place.
void encode(Codec codec, std::span<const float> values, std::span<uint8_t> out);
void encode(Codec codec, std::span<const float> values, uint8_t* scales, uint8_t* digits);

// Decodes elements [first, first + out.size()) of a payload that holds `count`; first is a multiple of 64.
// Throws std::invalid_argument for a payload of the wrong size, a digit of -8 (int4) or -128 (int8), a last odd nibble
// that is not 0, or a scale that is negative or whose decoded values may overflow; fp32 values that are not finite are
// refused likewise.
void decode(Codec codec, std::span<const uint8_t> payload, size_t count, size_t first, std::span<float> out);

}  // namespace kernels
