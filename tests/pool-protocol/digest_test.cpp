#include "protocol/digest.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "refusal.h"

namespace protocol {
namespace {

using Leaves = std::vector<std::span<const uint8_t>>;

// RFC 6962 section 2.1, word for word.
Digest defined_root(std::span<const std::span<const uint8_t>> leaves) {
  Sha256 hash;
  if (leaves.empty()) return hash.finish();
  if (leaves.size() == 1) {
    hash.update(std::string_view("\0", 1));
    hash.update(leaves[0]);
    return hash.finish();
  }
  size_t left = 1;
  while (2 * left < leaves.size()) left *= 2;
  hash.update("\1");
  hash.update(defined_root(leaves.first(left)));
  hash.update(defined_root(leaves.subspan(left)));
  return hash.finish();
}

TEST(Digest, KnownAnswers) {  // FIPS 180-4 examples
  EXPECT_EQ(to_hex(sha256(std::string_view("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(to_hex(sha256(std::string_view())), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Digest, PiecesAreTheWhole) {
  Sha256 hash;
  hash.update("a");
  hash.update(std::string_view());
  hash.update("bc");
  EXPECT_EQ(hash.finish(), sha256(std::string_view("abc")));
  EXPECT_THROW(hash.finish(), std::logic_error);
  EXPECT_THROW(hash.update("d"), std::logic_error);
}

TEST(Digest, OfAFile) {
  const auto file = std::filesystem::path(::testing::TempDir()) / "protocol_digest_of_a_file";
  const std::string content(600'001, 'x');  // more than two buffers
  std::ofstream(file, std::ios::binary) << content;
  EXPECT_EQ(sha256_of_file(file), sha256(std::string_view(content)));
  std::filesystem::remove(file);
  try {
    sha256_of_file(file);
    FAIL();
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find(file.string()), std::string::npos) << error.what();
  }
  EXPECT_THROW(sha256_of_file(::testing::TempDir()), std::runtime_error);
}

TEST(Digest, HexIsStrict) {
  const Digest digest = sha256(std::string_view("abc"));
  const std::string text = to_hex(digest);
  EXPECT_EQ(digest_from_hex(text, "x"), digest);
  std::string upper = text, short_text = text.substr(1), other = text;
  upper[0] = 'B';
  other[63] = 'g';
  for (const std::string& bad : {upper, short_text, other, text + "0", std::string(), " " + text.substr(1)})
    expect_refusal([&] { digest_from_hex(bad, "result.digest"); }, ErrorCode::bad_member, "result.digest", bad);
}

TEST(Merkle, IsTheRecursiveDefinition) {
  std::vector<std::vector<uint8_t>> data;
  Leaves leaves;
  data.reserve(130);
  for (size_t count = 0; count <= 130; ++count) {
    EXPECT_EQ(merkle_root(leaves), defined_root(leaves)) << count << " leaves";
    data.emplace_back(count % 7, static_cast<uint8_t>(count));
    leaves.emplace_back(data.back());
  }
}

TEST(Merkle, OfDigestsIsOverTheirBytes) {
  std::vector<Digest> digests;
  Leaves leaves;
  for (int i = 0; i < 5; ++i) digests.push_back(sha256(std::to_string(i)));
  for (const Digest& digest : digests) leaves.emplace_back(digest);
  EXPECT_EQ(merkle_root(std::span<const Digest>(digests)), defined_root(leaves));
}

TEST(Merkle, LeavesMayHaveBeenHashedElsewhere) {
  MerkleTree leaves, hashes;
  for (uint8_t i = 0; i < 7; ++i) {
    const std::vector<uint8_t> leaf(i, i);
    std::vector<uint8_t> marked(1, 0);
    marked.insert(marked.end(), leaf.begin(), leaf.end());
    leaves.add(leaf);
    hashes.add_hash(sha256(marked));
  }
  EXPECT_EQ(hashes.root(), leaves.root());
}

TEST(Merkle, SegmentsHaveLeavesOf64KiB) {
  std::vector<float> values(40'000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const std::span bytes(reinterpret_cast<const uint8_t*>(values.data()), 160'000);
  for (const size_t count : {size_t{0}, size_t{1}, size_t{16'384}, size_t{16'385}, values.size()}) {
    Leaves leaves;
    for (size_t begin = 0; begin < 4 * count; begin += 65'536)
      leaves.push_back(bytes.subspan(begin, std::min<size_t>(65'536, 4 * count - begin)));
    EXPECT_EQ(segment_digest(std::span(values).first(count)), defined_root(leaves)) << count << " values";
  }
}

}  // namespace
}  // namespace protocol
