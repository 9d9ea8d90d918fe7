// A backup of a store whose files go while it copies them.
#include "backup.h"

#include <sqlite3.h>

#include <functional>
#include <string_view>
#include <thread>

#include "errors.h"
#include "fake_rig.h"

namespace pool::testing {
namespace {

// While this lives, every time that a backup has copied the database, and before it copies blobs, something happens.
class AfterEachCopy {
 public:
  explicit AfterEachCopy(std::function<void()> happens) {
    copies = 0;
    then = std::move(happens);
    sqlite3_auto_extension(reinterpret_cast<void (*)()>(&watch));
  }
  ~AfterEachCopy() { sqlite3_cancel_auto_extension(reinterpret_cast<void (*)()>(&watch)); }
  AfterEachCopy(const AfterEachCopy&) = delete;
  AfterEachCopy& operator=(const AfterEachCopy&) = delete;

  int count() const { return copies; }

 private:
  // The copy is marked as a backup by an update of its table `pool`.
  static int watch(sqlite3* db, const char**, const sqlite3_api_routines*) {
    if (!std::string_view(sqlite3_db_filename(db, "main")).ends_with("gradpool.db.copy")) return SQLITE_OK;
    sqlite3_update_hook(
        db,
        [](void*, int operation, const char*, const char* table, sqlite3_int64) {
          if (operation != SQLITE_UPDATE || std::string_view(table) != "pool") return;
          ++copies;
          std::thread(then).join();  // as somebody else would; SQLite holds locks of the copy here
        },
        nullptr);
    return SQLITE_OK;
  }
  inline static int copies = 0;
  inline static std::function<void()> then;
};

class BackupOfABusyStore : public PoolFixture {
 protected:
  BackupOfABusyStore() {
    create(tiny_job());
    Rig alice = rig("alice");
    run({&alice});
    first_weights_ = core->store.read([](Db& db) {
      SQLite::Statement row(db, "SELECT digest FROM weights WHERE round = 0");
      row.executeStep();
      return bytes_at(row, 0);
    });
  }

  const std::filesystem::path copy_ = folder.path / "copy";
  protocol::Digest first_weights_{};
};

TEST_F(BackupOfABusyStore, WhatIsCollectedMeanwhileIsLeftOutOfASecondCopy) {
  {
    const AfterEachCopy collect([&] {
      core->store.write([](Db& db) { execute(db, "UPDATE weights SET kept = 0 WHERE round = 0"); });
      core->store.collect_garbage();
    });
    back_up(*core, copy_);
    EXPECT_EQ(collect.count(), 2);
  }
  EXPECT_FALSE(std::filesystem::exists(blob_path(copy_, first_weights_)));
  restore(copy_, folder.path / "restored");
  Pool restored(folder.path / "restored", clock);
  const StoreCheck found = restored.check_store();
  EXPECT_TRUE(found.repairs.empty() && found.warnings.empty());
  EXPECT_EQ(restored.status().jobs.at(0).weights_digest, status().weights_digest);
}

TEST_F(BackupOfABusyStore, WhatIsMissingForGoodIsNamed) {
  const std::filesystem::path file = core->store.blob_path(first_weights_);
  std::filesystem::remove(file);
  const AfterEachCopy counter([] {});
  try {
    back_up(*core, copy_);
    ADD_FAILURE() << "a backup without " << file;
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.code, ExitCode::store);
    EXPECT_NE(std::string(failure.what()).find(file.string()), std::string::npos) << failure.what();
  }
  EXPECT_EQ(counter.count(), 3);
}

}  // namespace
}  // namespace pool::testing
