#include "protocol/blob.h"

#include <cstring>
#include <stdexcept>

#include "protocol/error.h"

namespace protocol {
namespace {

constexpr char magic[8] = {'G', 'R', 'A', 'D', 'B', 'L', 'O', 'B'};
constexpr uint16_t blob_version = 1;
constexpr uint64_t max_count = uint64_t{1} << 56;
constexpr uint64_t block = 64;  // elements that share a scale

static_assert(offsetof(BlobHeader, version) == 8 && offsetof(BlobHeader, kind) == 10 &&
              offsetof(BlobHeader, codec) == 12 && offsetof(BlobHeader, zero) == 14 &&
              offsetof(BlobHeader, count) == 16 && offsetof(BlobHeader, payload_bytes) == 24);

void check(const char* field, uint64_t found, uint64_t expected) {
  if (found != expected)
    throw Error(ErrorCode::bad_result, std::string("blob header: ") + field + " is " + std::to_string(found) +
                                           ", expected " + std::to_string(expected));
}

}  // namespace

CodecId codec_from_name(const std::string& name) {
  for (const CodecId codec : all_codecs) {
    if (name == name_of(codec)) return codec;
  }
  throw Error(ErrorCode::bad_member, "codec: must be \"fp32\", \"int4\" or \"int8\"");
}

const char* name_of(CodecId codec) {
  switch (codec) {
    case CodecId::fp32:
      return "fp32";
    case CodecId::int4:
      return "int4";
    case CodecId::int8:
      return "int8";
  }
  throw std::logic_error("no such codec");
}

std::vector<std::string> codec_names() {
  std::vector<std::string> names;
  for (const CodecId codec : all_codecs) names.emplace_back(name_of(codec));
  return names;
}

uint64_t payload_bytes(CodecId codec, uint64_t count) {
  if (count > max_count) throw std::invalid_argument("a blob of " + std::to_string(count) + " elements");
  const uint64_t scales = 4 * ((count + block - 1) / block);
  switch (codec) {
    case CodecId::fp32:
      return 4 * count;
    case CodecId::int4:
      return scales + (count + 1) / 2;
    case CodecId::int8:
      return scales + count;
  }
  throw std::logic_error("no such codec");
}

BlobHeader make_blob_header(BlobKind kind, CodecId codec, uint64_t count) {
  BlobHeader header{};
  std::memcpy(header.magic, magic, sizeof magic);
  header.version = blob_version;
  header.kind = static_cast<uint16_t>(kind);
  header.codec = static_cast<uint16_t>(codec);
  header.count = count;
  header.payload_bytes = payload_bytes(codec, count);
  return header;
}

BlobHeader parse_blob_header(std::span<const uint8_t> bytes, uint64_t total_bytes, BlobKind kind, CodecId codec,
                             uint64_t count) {
  if (bytes.size() < blob_header_bytes || total_bytes < blob_header_bytes)
    throw Error(ErrorCode::bad_result, "blob header: the blob is shorter than its header of 32 bytes");
  BlobHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::memcmp(header.magic, magic, sizeof magic) != 0)
    throw Error(ErrorCode::bad_result, "blob header: it does not begin with GRADBLOB");
  check("version", header.version, blob_version);
  check("kind", header.kind, static_cast<uint16_t>(kind));
  check("codec", header.codec, static_cast<uint16_t>(codec));
  check("the field at offset 14", header.zero, 0);
  check("count", header.count, count);
  check("payload bytes", header.payload_bytes, payload_bytes(codec, count));
  check("payload bytes by the blob's size", total_bytes - blob_header_bytes, header.payload_bytes);
  return header;
}

}  // namespace protocol
