// The files of a pool, cut and changed at every byte: none is used.
#include <functional>

#include "fake_rig.h"

namespace pool::testing {
namespace {

class TornPoolFiles : public PoolFixture {
 protected:
  TornPoolFiles() {
    create(tiny_job());
    Rig ann = rig("ann");
    while (number("SELECT count(*) FROM units WHERE round = 1 AND kind = 'train' AND accepted IS NOT NULL") == 0) {
      advance();
      ann.work(ann.take());
    }
  }
  void close() {
    pool.reset();
    core.reset();
  }
  static std::string refusal(const std::function<void()>& action) {
    try {
      action();
    } catch (const std::runtime_error& failure) {
      return failure.what();
    }
    return "";
  }
};

TEST_F(TornPoolFiles, Blobs) {
  const auto digests = core->store.read([](Db& db) {
    Statement rows(db, "SELECT digest FROM blobs");
    std::vector<protocol::Digest> list;
    while (rows.executeStep()) list.push_back(bytes_at(rows, 0));
    return list;
  });
  ASSERT_GT(digests.size(), 8u);
  for (const protocol::Digest& digest : digests) {
    const std::filesystem::path file = core->store.blob_path(digest);
    const std::vector<uint8_t> whole = read_file(file);
    const auto expect_refused = [&](const std::vector<uint8_t>& bytes) {
      write_file(file, bytes);
      const std::string said = refusal([&] { core->store.read_blob(digest); });
      EXPECT_NE(said.find(file.string() + " is damaged"), std::string::npos) << said;
    };
    const size_t stride = whole.size() > 1024 ? 31 : 1;
    for (size_t at = 0; at < whole.size() && !HasFailure(); at += stride) {
      expect_refused({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(at)});
      std::vector<uint8_t> changed = whole;
      changed[at] ^= static_cast<uint8_t>(1 << at % 8);
      expect_refused(changed);
    }
    write_file(file, whole);
  }
}

TEST_F(TornPoolFiles, Key) {
  close();
  const std::filesystem::path file = folder.path / "data" / "pool.key";
  const std::vector<uint8_t> whole = read_file(file);
  for (size_t at = 0; at + 1 < whole.size(); ++at) {  // but its last newline
    write_file(file, std::span(whole).first(at));
    const std::string said = refusal([&] { Pool(folder.path / "data", clock); });
    ASSERT_NE(said.find("pool.key"), std::string::npos) << at << " bytes: " << said;
  }
}

// A write-ahead log that is cut anywhere gives an earlier moment, whose books balance.
TEST_F(TornPoolFiles, Database) {
  const std::filesystem::path data = folder.path / "data", kept = folder.path / "kept";
  std::filesystem::copy(data, kept, std::filesystem::copy_options::recursive);  // with its log, as a kill leaves it
  close();
  const auto use = [&](const char* name, size_t bytes) {
    std::filesystem::remove(data / "gradpool.db-shm");
    for (const char* file : {"gradpool.db", "gradpool.db-wal"}) write_file(data / file, read_file(kept / file));
    std::filesystem::resize_file(data / name, bytes);
  };
  for (size_t bytes = 1; bytes < std::filesystem::file_size(kept / "gradpool.db-wal"); bytes += 1021) {
    use("gradpool.db-wal", bytes);
    const std::string said = refusal([&] {
      Core opened(data, clock);
      EXPECT_EQ(opened.store.read([](Db& db) { return integer(db, 0, "SELECT sum(amount) FROM ledger_postings"); }), 0);
    });
    EXPECT_EQ(said, "") << bytes;
  }
}

}  // namespace
}  // namespace pool::testing
