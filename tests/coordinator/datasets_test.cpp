#include "datasets.h"

#include <cstring>

#include "errors.h"
#include "fake_rig.h"

namespace pool::testing {
namespace {

class Datasets : public PoolFixture {
 protected:
  std::filesystem::path file(std::span<const uint8_t> bytes) {
    const std::filesystem::path path = folder.path / ("file" + std::to_string(++files_));
    write_file(path, bytes);
    return path;
  }
  std::filesystem::path file(const std::vector<uint16_t>& tokens, const std::vector<int32_t>& header = {}) {
    std::vector<uint8_t> bytes(4 * header.size() + 2 * tokens.size());
    if (!header.empty()) std::memcpy(bytes.data(), header.data(), 4 * header.size());
    if (!tokens.empty()) std::memcpy(bytes.data() + 4 * header.size(), tokens.data(), 2 * tokens.size());
    return file(bytes);
  }
  static std::vector<uint16_t> counting(size_t n) {
    std::vector<uint16_t> tokens(n);
    for (size_t i = 0; i < n; ++i) tokens[i] = static_cast<uint16_t>(i % 5003);
    return tokens;
  }
  Dataset import(const std::string& name, const std::filesystem::path& path, bool is_text,
                 std::optional<std::filesystem::path> validation = {}) {
    return import_dataset(*core, {name, path, is_text, std::move(validation), 0.05});
  }
  std::string refusal(const std::filesystem::path& path, bool is_text) {
    try {
      import("refused", path, is_text);
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.code, ExitCode::bad_input);
      return failure.what();
    }
    return "";
  }
  std::vector<uint16_t> tokens_of(const std::vector<protocol::ShardReference>& shards) {
    std::vector<uint16_t> all;
    for (const protocol::ShardReference& shard : shards) {
      const std::vector<uint8_t> bytes = read_file(*pool->published_blob(shard.blob.digest));
      EXPECT_EQ(bytes.size(), shard.blob.bytes);
      EXPECT_EQ(bytes.size(), 2 * shard.tokens);
      const size_t before = all.size();
      all.resize(before + shard.tokens);
      std::memcpy(all.data() + before, bytes.data(), bytes.size());
    }
    return all;
  }

 private:
  int files_ = 0;
};

TEST_F(Datasets, TextIsBytesAndItsEndValidates) {
  std::vector<uint8_t> text(4000);
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<uint8_t>(i * 7);
  const Dataset dataset = import("bytes", file(text), true);
  EXPECT_EQ(dataset.vocabulary, 256u);
  std::vector<uint16_t> all = tokens_of(dataset.train);
  EXPECT_EQ(all.size(), 3800u);
  const std::vector<uint16_t> rest = tokens_of(dataset.validation);
  all.insert(all.end(), rest.begin(), rest.end());
  EXPECT_TRUE(std::equal(all.begin(), all.end(), text.begin(), text.end()));
}

TEST_F(Datasets, TokenFilesOfNanoGptAndLlmC) {
  const std::vector<uint16_t> tokens = counting(6000);
  const Dataset raw = import("raw", file(tokens), false);
  EXPECT_EQ(raw.vocabulary, 5003u);
  std::vector<int32_t> header(256);
  header[0] = 20240520;
  header[1] = 1;
  header[2] = 6000;
  const Dataset with_header = import("llmc", file(tokens, header), false);
  EXPECT_EQ(with_header.format, "uint16, llm.c");
  EXPECT_EQ(tokens_of(with_header.train), tokens_of(raw.train));
  EXPECT_EQ(tokens_of(raw.train), std::vector<uint16_t>(tokens.begin(), tokens.begin() + 5700));
}

TEST_F(Datasets, OwnValidationFileAndEvenShards) {
  const std::vector<uint16_t> tokens = counting((1 << 20) + 501), own = counting(300);
  uint64_t last = 0;
  const Dataset dataset =
      import_dataset(*core, {"big", file(tokens), false, file(own), 0.05}, [&](uint64_t done, uint64_t total) {
        EXPECT_GT(done, last);
        EXPECT_LE(done, total);
        last = done;
      });
  EXPECT_EQ(last, tokens.size() + own.size());
  ASSERT_EQ(dataset.train.size(), 2u);
  EXPECT_EQ(dataset.train[0].tokens, 524539u);
  EXPECT_EQ(dataset.train[1].tokens, 524538u);
  EXPECT_EQ(tokens_of(dataset.train), tokens);
  EXPECT_EQ(tokens_of(dataset.validation), own);
}

TEST_F(Datasets, WrongFilesAreNamedWithTheReason) {
  EXPECT_NE(refusal(folder.path / "nowhere", true).find("there is no file"), std::string::npos);
  EXPECT_NE(refusal(folder.path, true).find("not a regular file"), std::string::npos);
  EXPECT_NE(refusal(file(std::vector<uint8_t>{}), true).find("is empty"), std::string::npos);
  EXPECT_NE(refusal(file(std::vector<uint8_t>(300, 'a')), true).find("too short"), std::string::npos);
  EXPECT_NE(refusal(file(std::vector<uint8_t>(4001, 'a')), false).find("odd number of bytes"), std::string::npos);
  std::vector<int32_t> header(256);
  header[0] = 20240520;
  header[1] = 1;
  header[2] = 7000;
  EXPECT_NE(refusal(file(counting(6000), header), false).find("promises 7000"), std::string::npos);
  header[1] = 2;
  EXPECT_NE(refusal(file(counting(6000), header), false).find("version 2"), std::string::npos);
  header[0] = 20240801;
  EXPECT_NE(refusal(file(counting(6000), header), false).find("uint32"), std::string::npos);
  EXPECT_THROW(import("text", file(std::vector<uint8_t>(4000, 'a')), true), Failure);  // exists
  EXPECT_THROW(import("no/name", file(std::vector<uint8_t>(4000, 'a')), true), Failure);
}

}  // namespace
}  // namespace pool::testing
