// Encoding of a flat fp32 vector, docs/numerics.md section 7. The payload only: blob headers are the protocol's.
// int4 payload: ceil(count / 64) fp32 scales, then ceil(count / 2) bytes, element 2i in the low nibble of byte i,
// two's complement, a missing last element being 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace kernels {

enum class Codec : uint16_t { fp32 = 1, int4 = 2 };

size_t encoded_bytes(Codec codec, size_t count);

// out: encoded_bytes(codec, values.size()). Values must be finite (check first); single-threaded.
void encode(Codec codec, std::span<const float> values, std::span<uint8_t> out);

// Decodes elements [first, first + out.size()) of a payload that holds `count`; first is a multiple of 64.
// Throws std::invalid_argument for a payload of the wrong size, a nibble of -8, a last odd nibble that is not 0, or a
// scale that is negative or whose decoded values may overflow; fp32 values that are not finite are refused likewise.
void decode(Codec codec, std::span<const uint8_t> payload, size_t count, size_t first, std::span<float> out);

}  // namespace kernels
