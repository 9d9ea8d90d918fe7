#include "unit_blob.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <thread>

#include "kernels/codec.h"

namespace agent {
namespace {

constexpr size_t blob_values = 5 * kernels::codec_block + 7, first_values = 3 * kernels::codec_block;

std::vector<float> values_for_a_blob() {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> all(blob_values);
  for (float& value : all) value = normal(random);
  return all;
}

TEST(UnitBlob, PiecesInAnyOrderGiveTheHeaderAndThePayload) {
  const std::vector<float> all = values_for_a_blob();
  for (const protocol::CodecId codec : protocol::all_codecs) {
    UnitBlob blob(protocol::BlobKind::result, codec, blob_values);
    {
      const auto put = [&](size_t first, size_t size) {
        blob.put(first, std::span(all).subspan(first, size), *kernels::make_reference_ops());
      };
      const std::jthread behind([&] { put(first_values, blob_values - first_values); }),
          before([&] { put(0, first_values); });
    }
    EXPECT_EQ(blob.first_non_finite(), blob_values);
    const std::vector<uint8_t> bytes = blob.take();
    protocol::parse_blob_header(bytes, bytes.size(), protocol::BlobKind::result, codec, blob_values);
    std::vector<uint8_t> payload(protocol::payload_bytes(codec, blob_values));
    kernels::encode(static_cast<kernels::Codec>(codec), all, payload);
    EXPECT_TRUE(std::equal(payload.begin(), payload.end(), bytes.begin() + protocol::blob_header_bytes));
  }
}

TEST(UnitBlob, TheFirstValueThatIsNotFiniteIsKnownWhateverCameFirst) {
  std::vector<float> all = values_for_a_blob();
  all[first_values + 1] = NAN, all[blob_values - 1] = INFINITY, all[70] = -INFINITY;
  const auto ops = kernels::make_reference_ops();
  UnitBlob blob(protocol::BlobKind::result, protocol::CodecId::int4, blob_values);
  blob.put(first_values, std::span(all).subspan(first_values), *ops);
  EXPECT_EQ(blob.first_non_finite(), first_values + 1);
  blob.put(0, std::span(all).first(first_values), *ops);
  EXPECT_EQ(blob.first_non_finite(), 70u);
  blob.restart();
  EXPECT_EQ(blob.first_non_finite(), blob_values);
}

}  // namespace
}  // namespace agent
