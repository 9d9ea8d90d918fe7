// Every file that the agent keeps, cut at every byte and with every byte changed: it says what is wrong, or makes the
// file anew, and never uses what is not what it wrote.
#include <functional>
#include <random>

#include "earnings_command.h"
#include "files.h"
#include "run_loop_fixture.h"

namespace agent {
namespace {

namespace fs = std::filesystem;

enum class Damage { cut, changed };

class TornFiles : public RunLoopTest {
 protected:
  // Damages `file` in every way and checks each time. Of a large file: a place in each 61, and all next to pages.
  static void each(const fs::path& file, const std::function<void(Damage)>& check) {
    const std::string whole = read_text(file);
    ASSERT_FALSE(whole.empty()) << file;
    for (size_t at = 0; at < whole.size() && !HasFailure(); ++at) {
      const bool beside_page = at % 4096 <= 1 || at % 4096 == 4095;
      if (whole.size() > 8192 && at % 61 != 0 && !beside_page) continue;
      SCOPED_TRACE(file.filename().string() + " at byte " + std::to_string(at));
      fakes::write_file(file, whole.substr(0, at));
      check(Damage::cut);
      std::string other = whole;
      other[at] = static_cast<char>(other[at] ^ (1 << at % 8));
      fakes::write_file(file, other);
      check(Damage::changed);
      fakes::write_file(file, whole);
    }
  }
  template <class Exception = std::runtime_error, class Action>
  static std::string refusal(Action&& action) {
    try {
      action();
    } catch (const Exception& error) {
      return error.what();
    }
    return "";
  }
  PoolClient client() { return {*transport_, key.current, clock}; }
  static bool never() { return false; }

  const std::unique_ptr<Transport> transport_ = pool.transport();
};

TEST_F(TornFiles, Outbox) {
  Outbox box(folder.path / "box");
  protocol::Submission submission;
  const std::vector<uint8_t> blob(100, 7);
  submission.lease = std::string(32, 'a');
  submission.unit = "tiny.0.t0";
  submission.attempt = 1;
  submission.result = {protocol::sha256(blob), blob.size()};
  submission.loss = 1.5f;
  submission.tokens = 84;
  const OutboxItem item = box.put(submission, blob);
  for (const char* name : {"submission.json", "result.blob"}) {
    each(item.folder / name, [&](Damage) { EXPECT_NE(refusal([&] { box.load("tiny.0.t0.1"); }), ""); });
  }
  EXPECT_EQ(protocol::to_json(box.load("tiny.0.t0.1").submission), protocol::to_json(submission));
}

TEST_F(TornFiles, Documents) {
  job.lease(job.unit());
  pool.settlements.push_back(settlement(key.current.public_key()));
  ASSERT_FALSE(run(1));
  ASSERT_TRUE(read_earnings(folder.path).problems.empty());
  size_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder_of_pool("receipts"))) {
    if (!entry.is_regular_file()) continue;
    ++files;
    each(entry.path(), [&](Damage) { EXPECT_EQ(read_earnings(folder.path).problems.size(), 1u); });
  }
  EXPECT_EQ(files, 4u);
}

TEST_F(TornFiles, KnownPools) {
  ASSERT_FALSE(run(1));
  const fs::path file = fs::directory_iterator(folder.path / "pools")->path();
  PoolIdentity identity = known_pools(folder.path).at(0);
  each(file, [&](Damage) {
    const std::string said = refusal<Failure>([&] { pin_identity(folder.path, identity); });
    if (said.empty()) {  // only its last newline is gone, or what the pool says anew
      EXPECT_EQ(known_pools(folder.path).at(0).pool_id, identity.pool_id);
    } else {
      EXPECT_NE(said.find("remove"), std::string::npos) << said;
      EXPECT_NE(said.find(file.string()), std::string::npos) << said;
    }
  });
}

TEST_F(TornFiles, Key) {
  const protocol::PublicKey before = load_or_make_keys(folder.path).current.public_key();
  const fs::path file = folder.path / "key.pem";
  each(file, [&](Damage damage) {
    // A changed key can be another key: then it is another rig's, and nobody's receipts change.
    const std::string said = refusal<Failure>([&] {
      const protocol::PublicKey now = load_or_make_keys(folder.path).current.public_key();
      if (damage == Damage::cut) {
        EXPECT_EQ(now, before);
      }
    });
    if (!said.empty()) {
      EXPECT_NE(said.find(file.string()), std::string::npos) << said;
    }
  });
}

TEST_F(TornFiles, Configuration) {
  const fs::path file = folder.path / "config.json";
  fakes::write_file(file, R"({"pools": [{"url": "https://one:1", "user": "ann", "pin": "00"}], "threads": 3})");
  each(file, [&](Damage damage) {
    const std::string said = refusal<Failure>([&] { read_config(file); });  // a changed value is the user's
    if (damage == Damage::cut) {
      EXPECT_NE(said.find(file.string()), std::string::npos) << said;
    }
  });
}

TEST_F(TornFiles, Blobs) {
  std::vector<uint8_t> bytes(3000);
  std::mt19937 random(1);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  const protocol::BlobReference blob = pool.publish_reference(bytes);
  PoolClient asking = client();
  const auto fetch = [&] {
    BlobStore store(folder.path / "cache", {.bytes = 1'000'000, .disk_reserve = 0});
    return store.fetch(asking, blob, never);
  };
  const fs::path file = fetch();
  each(file, [&](Damage) { EXPECT_EQ(protocol::sha256_of_file(fetch()), blob.digest); });

  // As long as it is not whole: what is cut is gone on with, what is changed is found at its end and fetched anew.
  const fs::path part = file.string() + ".part";
  fs::rename(file, part);
  each(part, [&](Damage damage) {
    fs::remove(file);
    EXPECT_EQ(refusal<UnitRefused>(fetch).empty(), damage == Damage::cut);
    EXPECT_EQ(protocol::sha256_of_file(fetch()), blob.digest);
  });
}

TEST_F(TornFiles, Weights) {
  PoolClient asking = client();
  const protocol::Unit unit = job.unit();
  const auto materialise = [&] {
    BlobStore store(folder.path / "cache", {.bytes = 10'000'000, .disk_reserve = 0});
    WeightsCache cache(folder.path / "cache", store);
    EXPECT_EQ(*cache.materialise(asking, unit, job.config, never), job.rounds[0]);
  };
  materialise();
  const fs::path file = folder.path / "cache/weights/tiny.0.safetensors";
  each(file, [&](Damage) {
    materialise();
    EXPECT_EQ(protocol::sha256_of_file(file), job.digest(0)) << "what is damaged is made anew";
  });
}

}  // namespace
}  // namespace agent
