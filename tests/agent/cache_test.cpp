// BlobStore and WeightsCache: resume, corruption, room, and which way to a round's weights is taken.
#include <gtest/gtest.h>

#include "blob_store.h"
#include "exit.h"
#include "manual_clock.h"
#include "temporary_folder.h"
#include "tiny_job.h"
#include "weights_cache.h"

namespace agent {
namespace {

namespace fs = std::filesystem;

class CacheTest : public testing::Test {
 protected:
  static bool never() { return false; }
  fs::path fetch(const protocol::BlobReference& blob) { return store.fetch(client, blob, never); }
  static std::vector<uint8_t> pattern(size_t bytes) {
    std::vector<uint8_t> result(bytes);
    for (size_t i = 0; i < bytes; ++i) result[i] = static_cast<uint8_t>(i * 7 + i / 256);
    return result;
  }

  fakes::TemporaryFolder folder;
  fakes::ManualClock clock;
  fakes::FakePool pool;
  std::unique_ptr<Transport> transport = pool.transport();
  PoolClient client{*transport, protocol::PrivateKey::generate(), clock};
  BlobStore store{folder.path / "cache", {.bytes = 1'000'000, .disk_reserve = 0}};
};

TEST_F(CacheTest, ABlobIsDownloadedOnce) {
  const protocol::BlobReference blob = pool.publish_reference(pattern(5000));
  EXPECT_EQ(store.missing_bytes(blob), 5000u);
  const fs::path file = fetch(blob);
  EXPECT_EQ(protocol::sha256_of_file(file), blob.digest);
  EXPECT_EQ(store.missing_bytes(blob), 0u);
  fetch(blob);
  EXPECT_EQ(pool.count("GET /v1/blobs/"), 1u);
}

TEST_F(CacheTest, ACutDownloadIsGoneOnWith) {
  const protocol::BlobReference blob = pool.publish_reference(pattern(5000));
  pool.cut_download_at = 1234;
  EXPECT_THROW(fetch(blob), TransportError);
  EXPECT_EQ(store.missing_bytes(blob), 5000u - 1234u);
  EXPECT_EQ(protocol::sha256_of_file(fetch(blob)), blob.digest);
  EXPECT_EQ(pool.download_offsets, (std::vector<uint64_t>{0, 1234}));
}

TEST_F(CacheTest, APoolThatIgnoresTheRangeIsHeardFromTheStart) {
  const protocol::BlobReference blob = pool.publish_reference(pattern(5000));
  pool.cut_download_at = 1234;
  EXPECT_THROW(fetch(blob), TransportError);
  pool.ignore_range = true;
  EXPECT_EQ(protocol::sha256_of_file(fetch(blob)), blob.digest);
}

TEST_F(CacheTest, ADamagedFileIsFetchedAnew) {
  const protocol::BlobReference blob = pool.publish_reference(pattern(5000));
  const fs::path file = fetch(blob);
  fakes::write_file(file, std::string(5000, 'x'));
  BlobStore restarted{folder.path / "cache", {.bytes = 1'000'000, .disk_reserve = 0}};
  EXPECT_EQ(protocol::sha256_of_file(restarted.fetch(client, blob, never)), blob.digest);
  EXPECT_EQ(pool.count("GET /v1/blobs/"), 2u);
}

TEST_F(CacheTest, ABlobThatIsNotItsNameIsRefused) {
  const protocol::BlobReference blob = pool.publish_reference(pattern(5000));
  pool.published[blob.digest][77] ^= 1;
  EXPECT_THROW(fetch(blob), UnitRefused);
  pool.published[blob.digest][77] ^= 1;
  EXPECT_NO_THROW(fetch(blob)) << "the damaged part must not stay";
}

TEST_F(CacheTest, TheLongestUnusedMakesRoom) {
  BlobStore small{folder.path / "small", {.bytes = 10'000, .disk_reserve = 0}};
  std::vector<protocol::BlobReference> blobs;
  for (size_t i = 0; i < 3; ++i) {
    std::vector<uint8_t> bytes = pattern(4000);
    bytes[0] = static_cast<uint8_t>(i);
    blobs.push_back(pool.publish_reference(std::move(bytes)));
  }
  for (size_t i = 0; i < 2; ++i) {
    const fs::path file = small.fetch(client, blobs[i], never);
    fs::last_write_time(file, fs::file_time_type::clock::now() - std::chrono::seconds(100 - 10 * i));
  }
  small.fetch(client, blobs[2], never);
  EXPECT_EQ(small.missing_bytes(blobs[0]), 4000u);
  EXPECT_EQ(small.missing_bytes(blobs[1]), 0u);
  EXPECT_THROW(small.fetch(client, pool.publish_reference(pattern(10'001)), never), UnitRefused);
}

TEST_F(CacheTest, AFullDiskIsNamed) {
  BlobStore greedy{folder.path / "cache", {.bytes = UINT64_MAX / 4, .disk_reserve = UINT64_MAX / 4}};
  try {
    greedy.fetch(client, pool.publish_reference(pattern(10)), never);
    FAIL();
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.code, Exit::disk);
    EXPECT_NE(std::string(failure.what()).find("full"), std::string::npos);
  }
}

class WeightsCacheTest : public CacheTest {
 protected:
  std::vector<float> materialise(const protocol::Unit& unit) {
    return *cache.materialise(client, unit, job.config, never);
  }
  WeightsCache restarted() { return WeightsCache(folder.path / "cache", store); }
  fs::path weights_file(uint64_t round) {
    return folder.path / "cache/weights" / ("tiny." + std::to_string(round) + ".safetensors");
  }
  std::vector<uint64_t> held_rounds() const {
    std::vector<uint64_t> rounds;
    for (const auto& held : cache.held()) rounds.push_back(held.round);
    std::sort(rounds.begin(), rounds.end());
    return rounds;
  }

  TinyJob job{pool};
  WeightsCache cache{folder.path / "cache", store};
};

TEST_F(WeightsCacheTest, CheckpointThenUpdates) {
  EXPECT_EQ(materialise(job.unit()), job.rounds[0]);
  EXPECT_EQ(pool.count("GET /v1/blobs/"), 1u);
  for (int round = 1; round <= 3; ++round) {
    job.close_round();
    EXPECT_EQ(materialise(job.unit()), job.rounds.back());
  }
  EXPECT_EQ(pool.count("GET /v1/blobs/"), 4u) << "one checkpoint and three updates";
  EXPECT_EQ(held_rounds(), (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(protocol::sha256_of_file(weights_file(3)), job.digest(3)) << "a file that anyone can check";
}

TEST_F(WeightsCacheTest, WeightsOfAUnitInWorkStay) {
  const WeightsCache::Weights first = cache.materialise(client, job.unit(), job.config, never);
  EXPECT_EQ(cache.materialise(client, job.unit(), job.config, never), first) << "two units share them";
  EXPECT_EQ(cache.unused_bytes(), 0u);
  job.close_round();
  const WeightsCache::Weights second = cache.materialise(client, job.unit(), job.config, never);
  EXPECT_EQ(*first, job.rounds[0]);
  EXPECT_EQ(*second, job.rounds[1]);
  cache.free_memory();
  EXPECT_EQ(*second, job.rounds[1]);
}

TEST_F(WeightsCacheTest, WeightsThatNobodyHoldsAreChangedWhereTheyAre) {
  const float* first = cache.materialise(client, job.unit(), job.config, never)->data();
  EXPECT_EQ(cache.unused_bytes(), job.rounds[0].size() * sizeof(float));
  job.close_round();
  EXPECT_EQ(cache.materialise(client, job.unit(), job.config, never)->data(), first);
}

TEST_F(WeightsCacheTest, ALateJoinerTakesCheckpointAndAllUpdates) {
  for (int round = 0; round < 3; ++round) job.close_round();
  EXPECT_EQ(cache.missing_bytes(job.unit()), job.checkpoint.blob.bytes + 3 * job.updates[0].blob.bytes);
  EXPECT_EQ(materialise(job.unit()), job.rounds[3]);
}

TEST_F(WeightsCacheTest, UpdatesOfManyPieces) {
  TinyJob large(pool, 2101);
  ASSERT_GT(large.rounds[0].size(), size_t{1} << 16);
  ASSERT_NE(large.rounds[0].size() % 64, 0u);
  for (const protocol::CodecId codec : protocol::all_codecs) large.close_round(codec);
  EXPECT_EQ(*cache.materialise(client, large.unit(), large.config, never), large.rounds[3]);
}

TEST_F(WeightsCacheTest, ARestartedAgentTakesUpdatesOnly) {
  materialise(job.unit());
  job.close_round();
  job.close_round();
  WeightsCache again = restarted();
  const size_t before = pool.calls.size();
  EXPECT_EQ(again.missing_bytes(job.unit()), 2 * job.updates[0].blob.bytes);
  EXPECT_EQ(*again.materialise(client, job.unit(false), job.config, never), job.rounds[2]);
  EXPECT_EQ(pool.calls.size(), before + 2);
}

TEST_F(WeightsCacheTest, DamagedWeightsFallBackToTheCheckpoint) {
  materialise(job.unit());
  {
    std::fstream file(weights_file(0), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-100, std::ios::end);
    file.put('\x7f');
  }
  job.close_round();
  WeightsCache again = restarted();
  EXPECT_EQ(*again.materialise(client, job.unit(), job.config, never), job.rounds[1]);

  fakes::write_file(weights_file(1), "short");
  WeightsCache third = restarted();
  EXPECT_THROW(third.materialise(client, job.unit(false, 1), job.config, never), UnitRefused);
  EXPECT_TRUE(third.held().empty()) << "damaged weights must not be offered again";
}

TEST_F(WeightsCacheTest, UpdatesWithoutABaseAreRefused) {
  job.close_round();
  EXPECT_THROW(materialise(job.unit(false)), UnitRefused);
}

TEST_F(WeightsCacheTest, AJobOfTheSameNameIsNotMistaken) {
  materialise(job.unit());
  TinyJob other(pool);
  other.rounds[0][5] += 1;
  other.checkpoint.blob = pool.publish_reference(other.checkpoint_bytes(0));
  EXPECT_EQ(materialise(other.unit()), other.rounds[0]);
}

TEST_F(WeightsCacheTest, OtherFilesAreNotHeld) {
  std::filesystem::create_directories(folder.path / "cache/weights");
  for (const char* name : {"Copy of tiny.3.safetensors", "tiny.3.safetensors.tmp", "tiny.3x.safetensors",
                           "tiny.18446744073709551615.safetensors", "tiny.safetensors", ".3.safetensors"}) {
    fakes::write_file(folder.path / "cache/weights" / name, "");
  }
  EXPECT_TRUE(cache.held().empty());
  fakes::write_file(folder.path / "cache/weights/tiny.3.safetensors", "");
  EXPECT_EQ(cache.held().size(), 1u);
}

TEST_F(WeightsCacheTest, AWrongDigestIsRefused) {
  protocol::Unit unit = job.unit();
  unit.weights.digest[0] ^= 1;
  EXPECT_THROW(materialise(unit), UnitRefused);
  EXPECT_TRUE(cache.held().empty());
}

}  // namespace
}  // namespace agent
