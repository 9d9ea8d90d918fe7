#include "protocol/blob.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "refusal.h"

namespace protocol {
namespace {

std::vector<uint8_t> header_bytes(BlobKind kind, CodecId codec, uint64_t count) {
  const BlobHeader header = make_blob_header(kind, codec, count);
  std::vector<uint8_t> bytes(sizeof header);
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

TEST(Blob, PayloadSizes) {
  EXPECT_EQ(payload_bytes(CodecId::fp32, 0), 0u);
  EXPECT_EQ(payload_bytes(CodecId::fp32, 131), 524u);
  EXPECT_EQ(payload_bytes(CodecId::int4, 0), 0u);
  EXPECT_EQ(payload_bytes(CodecId::int4, 1), 4u + 1);
  EXPECT_EQ(payload_bytes(CodecId::int4, 64), 4u + 32);
  EXPECT_EQ(payload_bytes(CodecId::int4, 65), 8u + 33);
  EXPECT_EQ(payload_bytes(CodecId::int4, 131), 12u + 66);
  EXPECT_EQ(payload_bytes(CodecId::int8, 0), 0u);
  EXPECT_EQ(payload_bytes(CodecId::int8, 1), 4u + 1);
  EXPECT_EQ(payload_bytes(CodecId::int8, 64), 4u + 64);
  EXPECT_EQ(payload_bytes(CodecId::int8, 131), 12u + 131);
  for (const CodecId codec : all_codecs) EXPECT_THROW(payload_bytes(codec, UINT64_MAX), std::invalid_argument);
}

TEST(Blob, CodecNames) {
  EXPECT_EQ(codec_names(), (std::vector<std::string>{"fp32", "int4", "int8"}));
  for (const CodecId codec : all_codecs) EXPECT_EQ(codec_from_name(name_of(codec)), codec);
  for (const std::string name : {"", "sparse", "int", "int88", "FP32", "fp32 "})
    expect_refusal([&] { codec_from_name(name); }, ErrorCode::bad_member, "codec", name);
}

TEST(Blob, HeaderRoundTrip) {
  const auto bytes = header_bytes(BlobKind::update, CodecId::int4, 131);
  const BlobHeader header = parse_blob_header(bytes, 32 + 78, BlobKind::update, CodecId::int4, 131);
  EXPECT_EQ(header.kind, 2);
  EXPECT_EQ(header.codec, 2);
  EXPECT_EQ(header.count, 131u);
  EXPECT_EQ(header.payload_bytes, 78u);
}

TEST(Blob, EveryFieldIsChecked) {
  const auto good = header_bytes(BlobKind::result, CodecId::fp32, 131);
  const struct {
    size_t offset;
    const char* message;
  } fields[] = {{0, "GRADBLOB"}, {7, "GRADBLOB"}, {8, "version"},  {9, "version"}, {10, "kind"},
                {11, "kind"},    {12, "codec"},   {13, "codec"},   {14, "14"},     {15, "14"},
                {16, "count"},   {23, "count"},   {24, "payload"}, {31, "payload"}};
  for (const auto& [offset, message] : fields)
    for (const uint8_t flip : {0x01, 0x80}) {
      auto bytes = good;
      bytes[offset] ^= flip;
      expect_refusal([&] { parse_blob_header(bytes, 32 + 524, BlobKind::result, CodecId::fp32, 131); },
                     ErrorCode::bad_result, message, "byte " + std::to_string(offset));
    }
}

TEST(Blob, SizesMustAgree) {
  const auto good = header_bytes(BlobKind::result, CodecId::fp32, 131);
  const auto parse = [&](std::span<const uint8_t> bytes, uint64_t total, uint64_t count = 131) {
    return [=] { parse_blob_header(bytes, total, BlobKind::result, CodecId::fp32, count); };
  };
  EXPECT_NO_THROW(parse(good, 556)());
  expect_refusal(parse(good, 555), ErrorCode::bad_result, "size");
  expect_refusal(parse(good, 557), ErrorCode::bad_result, "size");
  expect_refusal(parse(good, 31), ErrorCode::bad_result, "shorter");
  expect_refusal(parse(std::span(good).first(31), 556), ErrorCode::bad_result, "shorter");
  expect_refusal(parse(good, 556, 130), ErrorCode::bad_result, "count");
}

}  // namespace
}  // namespace protocol
