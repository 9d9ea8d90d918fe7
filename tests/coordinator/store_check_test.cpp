// What a start finds wrong with the store: files taken away or damaged in turn.
#include "store_check.h"

#include <fstream>

#include "datasets.h"
#include "errors.h"
#include "fake_rig.h"
#include "jobs.h"
#include "store_repair.h"

namespace pool::testing {
namespace {

class StoreCheckTest : public PoolFixture {
 protected:
  // Two of three rounds are closed; of the third, one of two units is accepted. expected: what an undisturbed run
  // gives.
  StoreCheckTest() {
    create(tiny_job());
    Rig first = rig("first");
    run({&first});
    expected_ = weights_digests();
    pool.reset();
    core.reset();
    std::filesystem::remove_all(folder.path / "data");
    reopen();
    import_dataset(
        *core,
        {.name = "text", .file = folder.path / "text", .is_text = true, .validation = {}, .validation_share = 0.1});
    create(tiny_job());
    rig_.emplace(rig("alice"));
    while (number("SELECT count(*) FROM units WHERE round = 2 AND kind = 'train' AND accepted IS NOT NULL") == 0) {
      advance();
      rig_->work(rig_->take());
    }
  }

  std::filesystem::path file_of(const char* sql) {
    return core->store.blob_path(core->store.read([&](Db& db) {
      SQLite::Statement row(db, sql);
      EXPECT_TRUE(row.executeStep()) << sql;
      return bytes_at(row, 0);
    }));
  }
  static void damage(const std::filesystem::path& file) {
    std::vector<uint8_t> bytes = read_file(file);
    bytes.back() ^= 1;
    write_file(file, bytes);
  }
  std::string refusal() {
    reopen();
    try {
      pool->check_store();
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.code, ExitCode::store);
      return failure.what();
    }
    return "";
  }
  // The one repair that a start makes; after it a second start finds nothing, and the job ends as if nothing had been.
  void expect_repair(const std::string& words) {
    reopen();
    const StoreCheck found = pool->check_store();
    ASSERT_EQ(found.repairs.size(), 1u);
    EXPECT_NE(found.repairs[0].find(words), std::string::npos) << found.repairs[0];
    EXPECT_TRUE(found.warnings.empty());
    EXPECT_TRUE(pool->check_store().repairs.empty());
    Rig bob = rig("bob");  // holds nothing, so every file that it needs must be there
    run({&bob});
    EXPECT_EQ(status().state, "completed");
    EXPECT_EQ(weights_digests(), expected_);
    expect_books_balance();
  }

  // A job whose round 5 is open and whose kept checkpoints are 0, 3, 4 and 5; nobody has evaluated it, and a unit of
  // each round is to be checked. Update 1 is lost, so nothing leads to the weights of round 2.
  void lose_round_2() {
    cancel_job(*core, "tiny");
    JobRequest request = tiny_job("long");
    request.description.rounds = 8;
    create(request);
    protocol::LeaseRequest training = rig_->request();
    training.kinds = {"train"};
    while (status("long").rounds_done < 5) {
      training.request_id = protocol::random_hex16();
      rig_->work(*rig_->ask(training).lease);
      advance();
    }
    core->store.write([](Db& db) {
      db.exec(
          "INSERT INTO checks (unit, opened) SELECT id, 0 FROM units WHERE job = 'long' AND kind = 'train' AND "
          "number = 0 AND accepted IS NOT NULL");
    });
    std::filesystem::remove(file_of("SELECT digest FROM updates WHERE job = 'long' AND round = 1"));
  }
  std::vector<std::string> open_work() {
    return core->store.read([](Db& db) {
      SQLite::Statement rows(
          db,
          "SELECT name FROM units u WHERE job = 'long' AND (kind = 'evaluate' AND accepted IS NULL OR "
          "EXISTS (SELECT 1 FROM checks c WHERE c.unit = u.id AND state = 'open')) ORDER BY id");
      std::vector<std::string> names;
      while (rows.executeStep()) names.push_back(text_at(rows, 0));
      return names;
    });
  }

  std::optional<Rig> rig_;
  std::vector<std::string> expected_;
};

constexpr const char* accepted_result =
    "SELECT r.digest FROM units u JOIN results r ON r.id = u.accepted WHERE u.round = 2 AND u.kind = 'train'";
constexpr const char* newest_weights = "SELECT digest FROM weights ORDER BY round DESC LIMIT 1";

TEST_F(StoreCheckTest, AWholeStoreIsOnlyReadWhereTheNextRoundNeedsIt) {
  const StoreCheck found = pool->check_store();
  EXPECT_TRUE(found.repairs.empty());
  EXPECT_TRUE(found.warnings.empty());
  EXPECT_EQ(found.files_read, 5u + 2);  // weights, update, momentum, residual, one result; a shard of each split
  EXPECT_EQ(found.files, static_cast<uint64_t>(number("SELECT count(DISTINCT digest) FROM referenced_blobs")));
}

TEST_F(StoreCheckTest, ALostResultOpensItsUnitAgainAndTheTreasuryBearsIt) {
  const int64_t before = number("SELECT amount FROM ledger_balances WHERE account = 'job:tiny'");
  const int64_t price = number("SELECT price FROM units WHERE round = 2 AND kind = 'train'");
  const int64_t escrow = number("SELECT amount FROM ledger_balances WHERE account = 'escrow:alice'");
  std::filesystem::remove(file_of(accepted_result));
  reopen();
  pool->check_store();
  EXPECT_EQ(number("SELECT amount FROM ledger_balances WHERE account = 'job:tiny'"), before + price);
  EXPECT_EQ(number("SELECT amount FROM ledger_balances WHERE account = 'escrow:alice'"), escrow);
  EXPECT_EQ(number("SELECT count(*) FROM units WHERE round = 2 AND kind = 'train' AND accepted IS NOT NULL"), 0);
  expect_books_balance();
  EXPECT_TRUE(pool->check_store().repairs.empty());
  Rig bob = rig("bob");
  run({&bob});
  EXPECT_EQ(weights_digests(), expected_);
}

TEST_F(StoreCheckTest, ADamagedResultOpensItsUnitAgain) {
  damage(file_of(accepted_result));
  expect_repair("the unit is open again");
}

TEST_F(StoreCheckTest, LostNewestWeightsAreMadeAgain) {
  std::filesystem::remove(file_of(newest_weights));
  expect_repair("made again");
}

TEST_F(StoreCheckTest, DamagedNewestWeightsAreMadeAgain) {
  damage(file_of(newest_weights));
  expect_repair("made again");
}

TEST_F(StoreCheckTest, ALostUpdateIsReplacedByACheckpoint) {
  std::filesystem::remove(file_of("SELECT digest FROM updates WHERE round = 1"));
  expect_repair("rigs get a checkpoint");
}

TEST_F(StoreCheckTest, WorkWhoseWeightsAreLostForGoodIsGivenUp) {
  lose_round_2();
  reopen();
  const StoreCheck found = pool->check_store();
  ASSERT_EQ(found.repairs.size(), 3u);
  EXPECT_NE(found.repairs[0].find("update 1 of job long"), std::string::npos) << found.repairs[0];
  EXPECT_NE(found.repairs[1].find("the check of long.2.t0"), std::string::npos) << found.repairs[1];
  EXPECT_NE(found.repairs[2].find("the evaluation long.2.e0"), std::string::npos) << found.repairs[2];
  EXPECT_EQ(open_work(),
            (std::vector<std::string>{"long.0.t0", "long.0.e0", "long.1.t0", "long.3.t0", "long.4.t0", "long.4.e0"}));
  EXPECT_TRUE(pool->check_store().repairs.empty());
  Rig bob = rig("bob");
  run({&bob}, "long");
  EXPECT_EQ(status("long").state, "completed");
  expect_books_balance();
}

TEST_F(StoreCheckTest, AnEvaluationThatCannotBeRepeatedIsNotInTheCurve) {
  lose_round_2();
  protocol::LeaseRequest evaluating = rig_->request();
  evaluating.kinds = {"evaluate"};
  for (int i = 0; i < 3; ++i) {
    evaluating.request_id = protocol::random_hex16();
    rig_->work(*rig_->ask(evaluating).lease);
  }
  core->store.write([](Db& db) {  // as a bar does
    db.exec("UPDATE results SET pay = 'voided' WHERE id = (SELECT accepted FROM units WHERE name = 'long.2.e0')");
    db.exec("UPDATE units SET accepted = NULL WHERE name = 'long.2.e0'");
  });
  reopen();
  pool->check_store();
  Rig bob = rig("bob");
  run({&bob}, "long");
  EXPECT_EQ(status("long").state, "completed");
  std::vector<uint64_t> rounds;
  for (const auto& [round, loss] : status("long").validation_loss) rounds.push_back(round);
  EXPECT_EQ(rounds, (std::vector<uint64_t>{0, 4, 6, 8}));
}

TEST_F(StoreCheckTest, AStartThatRefusesGivesNothingUp) {
  lose_round_2();
  const std::filesystem::path lost[] = {file_of("SELECT digest FROM updates WHERE job = 'long' AND round = 2"),
                                        file_of("SELECT digest FROM weights WHERE job = 'long' AND round = 0"),
                                        file_of("SELECT r.digest FROM results r JOIN units u ON u.id = r.unit WHERE "
                                                "u.job = 'long' AND u.round = 4 AND r.kept"),
                                        file_of("SELECT momentum FROM outer_states WHERE job = 'long'")};
  for (const auto& file : lost) std::filesystem::rename(file, file.string() + ".away");
  EXPECT_NE(refusal().find(lost[3].string()), std::string::npos);
  for (const auto& file : lost) std::filesystem::rename(file.string() + ".away", file);
  reopen();
  const StoreCheck found = pool->check_store();
  ASSERT_EQ(found.repairs.size(), 3u) << "of update 1, which nobody put back";
  EXPECT_NE(found.repairs[0].find("update 1 of job long"), std::string::npos) << found.repairs[0];
}

TEST_F(StoreCheckTest, AnOldCheckpointThatCannotBeMadeIsKeptNoLonger) {
  std::filesystem::remove(file_of("SELECT digest FROM weights WHERE round = 0"));
  expect_repair("kept no longer");
}

TEST_F(StoreCheckTest, AResultOfAClosedRoundIsNotNeeded) {
  std::filesystem::remove(file_of("SELECT r.digest FROM results r JOIN units u ON u.id = r.unit WHERE u.round = 0"));
  expect_repair("kept no longer");
}

TEST_F(StoreCheckTest, FilesThatNothingRefersToAreRemoved) {
  const protocol::Digest digest = protocol::sha256("unpublished");
  std::ofstream(core->store.blob_path(digest)) << "unpublished";
  expect_repair("1 unfinished files");
  EXPECT_FALSE(std::filesystem::exists(core->store.blob_path(digest)));
}

TEST_F(StoreCheckTest, WhatCannotBeMadeAgainIsNamedUntilItIsBack) {
  for (const char* sql : {"SELECT momentum FROM outer_states", "SELECT residual FROM outer_states",
                          "SELECT digest FROM shards WHERE split = 'train'"}) {
    const std::filesystem::path file = file_of(sql);
    std::filesystem::rename(file, folder.path / "away");
    const std::string said = refusal();
    EXPECT_NE(said.find(file.string()), std::string::npos) << said;
    EXPECT_NE(said.find("restore --from"), std::string::npos) << said;
    EXPECT_NE(said.find("put the files back"), std::string::npos) << said;
    std::filesystem::rename(folder.path / "away", file);
    EXPECT_EQ(refusal(), "");
  }
  for (const char* sql : {"SELECT momentum FROM outer_states", "SELECT digest FROM shards WHERE split = 'train'",
                          "SELECT digest FROM shards WHERE split = 'validation'"}) {
    const std::filesystem::path file = file_of(sql);
    damage(file);
    EXPECT_NE(refusal().find(file.string()), std::string::npos) << sql;
    damage(file);  // back again
    EXPECT_EQ(refusal(), "");
  }
}

TEST_F(StoreCheckTest, WeightsWithoutAnUpdateThatLeadsToThemAreNamed) {
  std::filesystem::remove(file_of(newest_weights));
  std::filesystem::remove(file_of("SELECT digest FROM updates WHERE round = 1"));
  EXPECT_NE(refusal().find("the weights of round 2"), std::string::npos);
}

TEST_F(StoreCheckTest, BooksAndDocumentsThatAreNotWhatThePoolWroteAreNamed) {
  const auto refused_after = [&](const char* change, const char* undo, const char* words) {
    core->store.write([&](Db& db) { db.exec(change); });
    const std::string said = refusal();
    EXPECT_NE(said.find(words), std::string::npos) << change << ": " << said;
    core->store.write([&](Db& db) { db.exec(undo); });
    EXPECT_EQ(refusal(), "");
  };
  refused_after("UPDATE ledger_balances SET amount = amount + 1 WHERE account = 'escrow:alice'",
                "UPDATE ledger_balances SET amount = amount - 1 WHERE account = 'escrow:alice'", "escrow:alice");
  refused_after("DROP TRIGGER ledger_postings_stay; UPDATE ledger_postings SET amount = amount + 1 WHERE id = 1",
                "UPDATE ledger_postings SET amount = amount - 1 WHERE id = 1", "sum to 1");
  refused_after("UPDATE jobs SET document = document || ' '", "UPDATE jobs SET document = trim(document)",
                "the description of job tiny");
  refused_after("UPDATE rounds SET document = document || ' ' WHERE round = 1",
                "UPDATE rounds SET document = trim(document) WHERE round = 1", "record of job tiny");
  const char* swap_halves =
      "UPDATE jobs SET signature = CAST(substr(signature, 33) || substr(signature, 1, 32) AS BLOB)";
  refused_after(swap_halves, swap_halves, "the description of job tiny");
}

TEST_F(StoreCheckTest, AFinishedJobsLostCheckpointIsOnlySaid) {
  Rig bob = rig("bob");
  run({&bob});
  const std::filesystem::path file = file_of(newest_weights);
  std::filesystem::remove(file);
  reopen();
  const StoreCheck found = pool->check_store();
  EXPECT_TRUE(found.repairs.empty());
  ASSERT_EQ(found.warnings.size(), 1u);
  EXPECT_NE(found.warnings[0].find(file.string()), std::string::npos) << found.warnings[0];
}

TEST_F(StoreCheckTest, UnfinishedFilesOfProcessesThatAreGoneAreRemoved) {
  const std::filesystem::path temporary = folder.path / "data" / "temporary";
  std::filesystem::create_directory(temporary / "gone");
  std::ofstream(temporary / "gone" / "half") << "half a file";
  std::ofstream(temporary / "old") << "of version 1";
  const std::filesystem::path in_use = core->store.temporary_path();
  std::ofstream(in_use) << "being written";
  const Core other(folder.path / "data", clock);
  EXPECT_FALSE(std::filesystem::exists(temporary / "gone"));
  EXPECT_FALSE(std::filesystem::exists(temporary / "old"));
  EXPECT_TRUE(std::filesystem::exists(in_use)) << "its process lives";
}

}  // namespace
}  // namespace pool::testing
