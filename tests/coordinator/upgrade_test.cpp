// Stores of other versions of the schema: older ones are brought up to date, newer ones refused.
#include "errors.h"
#include "fake_rig.h"
#include "migrations.h"
#include "store_1.h"

namespace pool::testing {
namespace {

class Upgrade : public PoolFixture {
 protected:
  // The committed store of version 1 takes the place of the fixture's folder.
  void use_version_1() {
    pool.reset();
    core.reset();
    std::filesystem::remove_all(data);
    make_store_1(data);
  }
  static int version_of(const std::filesystem::path& database) {
    return Db(database.string()).execAndGet("PRAGMA user_version").getInt();
  }
  // table.column, type, nullable, default
  static std::vector<std::string> columns_of(const std::filesystem::path& database) {
    Db db(database.string());
    SQLite::Statement rows(
        db,
        "SELECT t.name || '.' || c.name || ' ' || c.type || ' ' || c.\"notnull\" || ' ' || "
        "coalesce(c.dflt_value, '') FROM sqlite_master t JOIN pragma_table_info(t.name) c ORDER BY 1");
    std::vector<std::string> columns;
    while (rows.executeStep()) columns.push_back(text_at(rows, 0));
    return columns;
  }
  std::string refusal() {
    try {
      Core(data, clock);
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.code, ExitCode::store);
      return failure.what();
    }
    return "";
  }

  const std::filesystem::path data = folder.path / "data";
};

TEST_F(Upgrade, AnOlderStoreGoesOnToTheSameWeightsAndItsDatabaseIsKept) {
  create(tiny_job());
  Rig first = rig("alice");
  run({&first});
  const std::vector<std::string> expected = weights_digests();
  pool.reset();
  core.reset();
  const std::vector<std::string> columns = columns_of(data / "gradpool.db");

  use_version_1();
  EXPECT_NE(refusal().find("schema 1, this one has 2"), std::string::npos) << refusal();
  EXPECT_EQ(version_of(data / "gradpool.db"), 1);  // opening alone changes nothing
  EXPECT_EQ(migrate_folder(data), data / "gradpool.db.schema-1");
  EXPECT_EQ(columns_of(data / "gradpool.db"), columns);
  EXPECT_EQ(version_of(data / "gradpool.db"), newest_schema_version());
  EXPECT_EQ(version_of(data / "gradpool.db.schema-1"), 1);
  EXPECT_EQ(integer(*std::make_unique<Db>((data / "gradpool.db.schema-1").string()), 0, "SELECT count(*) FROM results"),
            3);
  EXPECT_EQ(migrate_folder(data), std::nullopt);

  reopen();
  EXPECT_TRUE(pool->check_store().repairs.empty());
  EXPECT_EQ(status().rounds_done, 1u);
  Rig bob = rig("bob");
  run({&bob});
  EXPECT_EQ(status().state, "completed");
  EXPECT_EQ(weights_digests(), expected);
  expect_books_balance();
}

TEST_F(Upgrade, AMigrationThatFailsChangesNothing) {
  use_version_1();
  {
    Db db((data / "gradpool.db").string(), SQLite::OPEN_READWRITE);
    db.exec("ALTER TABLE pool ADD COLUMN restored INTEGER");  // so that the step fails
  }
  EXPECT_THROW(migrate_folder(data), Failure);
  EXPECT_EQ(version_of(data / "gradpool.db"), 1);
  EXPECT_EQ(version_of(data / "gradpool.db.schema-1"), 1);
}

TEST_F(Upgrade, ANewerStoreIsRefusedAndNotTouched) {
  pool.reset();
  core.reset();
  Db((data / "gradpool.db").string(), SQLite::OPEN_READWRITE).exec("PRAGMA user_version = 99");
  const std::string said = refusal();
  EXPECT_NE(said.find("schema 99, this one knows up to 2"), std::string::npos) << said;
  EXPECT_THROW(migrate_folder(data), Failure);
  EXPECT_EQ(version_of(data / "gradpool.db"), 99);
  EXPECT_FALSE(std::filesystem::exists(data / "gradpool.db.schema-99"));
}

}  // namespace
}  // namespace pool::testing
