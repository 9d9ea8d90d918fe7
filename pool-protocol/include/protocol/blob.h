// The 32-byte header of results, updates and losses, docs/protocol.md section 6.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace protocol {

enum class BlobKind : uint16_t { result = 1, update = 2, losses = 3 };
enum class CodecId : uint16_t { fp32 = 1, int4 = 2, int8 = 3 };
inline constexpr std::array all_codecs = {CodecId::fp32, CodecId::int4, CodecId::int8};

// "fp32" | "int4" | "int8"; throws Error(bad_member) otherwise.
CodecId codec_from_name(const std::string& name);
const char* name_of(CodecId codec);
std::vector<std::string> codec_names();  // of all_codecs

struct BlobHeader {
  char magic[8];
  uint16_t version, kind, codec, zero;
  uint64_t count, payload_bytes;
};
static_assert(sizeof(BlobHeader) == 32);
constexpr size_t blob_header_bytes = 32;

uint64_t payload_bytes(CodecId codec, uint64_t count);
BlobHeader make_blob_header(BlobKind kind, CodecId codec, uint64_t count);
// bytes: at least the header; total_bytes: the blob's size. Throws Error(bad_result) saying which field is wrong.
BlobHeader parse_blob_header(std::span<const uint8_t> bytes, uint64_t total_bytes, BlobKind kind, CodecId codec,
                             uint64_t count);

}  // namespace protocol
