// The folder: opening, accounts and rigs, backup, damage.
#include "store.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <fstream>
#include <thread>

#include "backup.h"
#include "errors.h"
#include "fake_rig.h"
#include "jobs.h"
#include "protocol/blob.h"

namespace pool::testing {
namespace {

using protocol::Error;
using protocol::ErrorCode;

class Folder : public PoolFixture {
 protected:
  static ErrorCode code_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.code;
    }
    ADD_FAILURE() << "nothing was refused";
    return ErrorCode::internal;
  }
  static ExitCode exit_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const Failure& failure) {
      return failure.code;
    }
    return ExitCode::ok;
  }
  protocol::VerifiedRequest request_of(const protocol::PrivateKey& key) const {
    protocol::VerifiedRequest request;
    request.key = key.public_key();
    request.nonce = protocol::random_hex16();
    request.expires = clock.time + 300;
    return request;
  }
};

TEST_F(Folder, KeepsItsIdentityAndRefusesWhatItCannotRead) {
  const protocol::Digest id = pool->pool_id();
  reopen();
  EXPECT_EQ(pool->pool_id(), id);
  EXPECT_EQ(pool->info().public_keys.size(), 1u);
  EXPECT_EQ(protocol::sha256(pool->info().public_keys[0].key), id);
  core->store.write([](Db& db) { db.exec("PRAGMA user_version = 99"); });
  EXPECT_EQ(exit_of([&] { Core(folder.path / "data", clock); }), ExitCode::store);
  core->store.write([](Db& db) { db.exec("PRAGMA user_version = 2"); });
  std::filesystem::remove(folder.path / "data" / "pool.key");
  EXPECT_EQ(exit_of([&] { Core(folder.path / "data", clock); }), ExitCode::store);
  protocol::PrivateKey::generate().save_new(folder.path / "data" / "pool.key");
  EXPECT_EQ(exit_of([&] { Core(folder.path / "data", clock); }), ExitCode::store);
  std::ofstream(folder.path / "file") << "not a folder";
  EXPECT_EQ(exit_of([&] { Core(folder.path / "file", clock); }), ExitCode::store);
}

// As a restore leaves it that died before its first commit.
TEST_F(Folder, ADatabaseWithoutAPoolIsNoneAndBecomesNone) {
  const std::filesystem::path left = folder.path / "left";
  for (int i = 0; i < 2; ++i) EXPECT_EQ(exit_of([&] { Core(left, clock, false); }), ExitCode::store);
  EXPECT_TRUE(std::filesystem::exists(left / "gradpool.db"));
  EXPECT_FALSE(std::filesystem::exists(left / "pool.key"));
}

TEST_F(Folder, AFullDiskChangesNothing) {
  create(tiny_job());
  Rig alice = rig("alice");
  const Work work = alice.compute(alice.take());
  alice.upload(work);
  const auto limit = [&](int64_t pages) {
    pool.reset();
    core = std::make_unique<Core>(folder.path / "data", clock);
    core->store.write([&](Db& db) { db.exec("PRAGMA max_page_count = " + std::to_string(pages)); });
  };
  limit(1);  // SQLite takes the present size where that is more: no page can be added
  std::string message;
  try {
    core->store.write([](Db& db) {
      for (int i = 0; i < 2000; ++i) {
        execute(db, "INSERT INTO refusals VALUES (?, 1)", std::string(500, 'x') + std::to_string(i));
      }
    });
  } catch (const Failure& failure) {
    message = failure.what();
    EXPECT_EQ(failure.code, ExitCode::store);
  }
  EXPECT_NE(message.find("is full"), std::string::npos) << message;
  EXPECT_EQ(number("SELECT count(*) FROM refusals"), 0);
  reopen();
  EXPECT_EQ(protocol::receipt_from_canonical(alice.submit(work).document).outcome, protocol::Outcome::accepted);
}

TEST_F(Folder, EnrolmentNeedsAccountTokenAndAFreeKey) {
  const std::string token = create_account(*core, "alice");
  create_account(*core, "bob");
  EXPECT_EQ(exit_of([&] { create_account(*core, "alice"); }), ExitCode::refused);
  EXPECT_EQ(exit_of([&] { create_account(*core, "no spaces"); }), ExitCode::bad_input);
  const auto key = protocol::PrivateKey::generate();
  const auto enrol = [&](const std::string& account, const std::string& secret,
                         const std::string& agent = "gradminer/0.1.0") {
    pool->enrol(request_of(key), {account, secret, "rig-1", agent, std::nullopt});
  };
  EXPECT_EQ(code_of([&] { enrol("carol", token); }), ErrorCode::account_unknown);
  EXPECT_EQ(code_of([&] { enrol("alice", "wrong"); }), ErrorCode::token_wrong);
  EXPECT_EQ(code_of([&] { enrol("bob", token); }), ErrorCode::token_wrong);
  EXPECT_EQ(code_of([&] { enrol("alice", token, "gradminer/0.0.9"); }), ErrorCode::agent_too_old);
  EXPECT_EQ(code_of([&] { enrol("alice", token, "gradminer"); }), ErrorCode::bad_member);
  EXPECT_EQ(code_of([&] { enrol("alice", token, "gradminer/4294967297.0.0"); }), ErrorCode::bad_member);
  EXPECT_EQ(code_of([&] { pool->admit(request_of(key)); }), ErrorCode::unknown_key);
  enrol("alice", token);
  enrol("alice", token);  // a no-op
  EXPECT_EQ(pool->admit(request_of(key)).account, "alice");
  EXPECT_EQ(pool->status().rigs.size(), 1u);
  const std::string bobs = create_account(*core, "bobby");
  EXPECT_EQ(code_of([&] { enrol("bobby", bobs); }), ErrorCode::key_taken);

  const protocol::VerifiedRequest once = request_of(key);
  pool->admit(once);
  EXPECT_EQ(code_of([&] { pool->admit(once); }), ErrorCode::nonce_replayed);
  clock.time += 599;
  pool->advance();
  EXPECT_EQ(code_of([&] { pool->admit(once); }), ErrorCode::nonce_replayed);  // kept until expires + 300
  clock.time += 100;
  pool->advance();
  EXPECT_EQ(number("SELECT count(*) FROM nonces"), 0);

  EXPECT_EQ(exit_of([&] { revoke_rig(*core, "rig-2"); }), ExitCode::not_found);
  revoke_rig(*core, "rig-1");
  EXPECT_EQ(exit_of([&] { revoke_rig(*core, "rig-1"); }), ExitCode::refused);
  EXPECT_EQ(code_of([&] { pool->admit(request_of(key)); }), ErrorCode::key_revoked);
  EXPECT_EQ(code_of([&] { enrol("alice", token); }), ErrorCode::key_revoked);
}

TEST_F(Folder, ANewKeyIsSignedInByTheOldOne) {
  const std::string token = create_account(*core, "alice");
  const auto old_key = protocol::PrivateKey::generate(), new_key = protocol::PrivateKey::generate();
  pool->enrol(request_of(old_key), {"alice", token, "rig", "gradminer/0.1.0", std::nullopt});
  protocol::Enrolment rotation{"alice", token, "rig", "gradminer/0.1.0",
                               protocol::PreviousKey{old_key.public_key(), {}}};
  EXPECT_EQ(code_of([&] { pool->enrol(request_of(new_key), rotation); }), ErrorCode::signature_invalid);
  rotation.previous->signature = old_key.sign(protocol::rotation_message(pool->pool_id(), new_key.public_key()));
  pool->enrol(request_of(new_key), rotation);
  EXPECT_EQ(pool->admit(request_of(new_key)).rig_id, "rig");
  EXPECT_EQ(code_of([&] { pool->admit(request_of(old_key)); }), ErrorCode::key_revoked);
}

TEST_F(Folder, OnlyAdmissionIsNotSyncedByItself) {
  const auto synchronous = [](Db& db) { return integer(db, -1, "PRAGMA synchronous"); };
  constexpr int normal = 1, full = 2;
  EXPECT_EQ(core->store.write_unsynced(synchronous), normal);
  EXPECT_EQ(core->store.write(synchronous), full);
  EXPECT_EQ(core->store.write_unsynced(synchronous), normal);
}

// Asleep in the kernel, as a thread that waits for a lock.
bool is_asleep(pid_t thread) {
  std::ifstream stat("/proc/self/task/" + std::to_string(thread) + "/stat");
  std::string text;
  std::getline(stat, text);
  return text.substr(text.rfind(')') + 2, 1) == "S";
}

// While one body runs, others come to wait and so share the next transaction, in turn.
TEST_F(Folder, WritersThatShareATransactionFailAlone) {
  core->store.write([](Db& db) { db.exec("CREATE TABLE notes (note INTEGER UNIQUE)"); });
  constexpr int writers = 8;
  std::array<std::atomic<pid_t>, writers> waiting{};
  std::vector<std::thread> threads;
  const auto add = [&](int note) {
    waiting[static_cast<size_t>(note)] = gettid();
    return core->store.write([&](Db& db) {
      execute(db, "INSERT INTO notes VALUES (?)", note);
      if (note == 2) throw Error(ErrorCode::bad_request, "half done");
      if (note == 3) execute(db, "INSERT INTO notes VALUES (?)", note);  // SQLite refuses
      return integer(db, -1, "SELECT count(*) FROM notes");
    });
  };
  std::array<int64_t, writers> counts{};
  std::array<std::string, writers> failures;
  core->store.write([&](Db&) {
    for (int note = 0; note < writers; ++note) {
      threads.emplace_back([&, i = static_cast<size_t>(note)] {
        try {
          counts[i] = add(static_cast<int>(i));
        } catch (const std::exception& error) {
          failures[i] = error.what();
        }
      });
      const std::atomic<pid_t>& id = waiting[static_cast<size_t>(note)];
      while (id == 0 || !is_asleep(id)) std::this_thread::yield();
    }
  });
  for (std::thread& thread : threads) thread.join();

  EXPECT_EQ(failures[2], "half done");
  EXPECT_NE(failures[3].find("UNIQUE"), std::string::npos) << failures[3];
  std::sort(counts.begin(), counts.end());  // nobody saw what was taken back
  EXPECT_EQ(counts, (std::array<int64_t, writers>{0, 0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(number("SELECT count(*) FROM notes"), writers - 2);
  EXPECT_EQ(number("SELECT count(*) FROM notes WHERE note IN (2, 3)"), 0);
}

TEST_F(Folder, CountersAddUp) {
  pool->count_traffic(5, 7);
  pool->count_traffic(1, 2);
  pool->count_refusal("bad_json");
  pool->count_refusal("bad_json", 2);
  const PoolStatus status = pool->status();
  EXPECT_EQ(status.bytes_up, 6u);
  EXPECT_EQ(status.bytes_down, 9u);
  EXPECT_EQ(status.refusals.at("bad_json"), 3u);
}

TEST_F(Folder, ABackupMadeWhileServingGoesOnToTheSameWeights) {
  create(tiny_job());
  Rig alice = rig("alice");
  alice.work(alice.take());
  alice.work(alice.take());
  advance();
  const protocol::Lease lease = alice.take();
  EXPECT_GT(back_up(*core, folder.path / "copy").blobs, 0u);
  EXPECT_EQ(exit_of([&] { back_up(*core, folder.path / "copy"); }), ExitCode::refused);
  alice.work(lease);
  run({&alice});
  const std::string expected = status().weights_digest;

  restore(folder.path / "copy", folder.path / "restored");
  EXPECT_EQ(exit_of([&] { restore(folder.path / "copy", folder.path / "restored"); }), ExitCode::refused);
  EXPECT_EQ(exit_of([&] { restore(folder.path / "nothing", folder.path / "new"); }), ExitCode::not_found);
  clock.time += 100;
  core = std::make_unique<Core>(folder.path / "restored", clock);
  pool = std::make_unique<Pool>(folder.path / "restored", clock);
  EXPECT_TRUE(pool->check_store().repairs.empty());
  EXPECT_EQ(status().rounds_done, 1u);
  run({&alice});
  EXPECT_EQ(status().state, "completed");
  EXPECT_EQ(status().weights_digest, expected);
  expect_books_balance();
}

TEST_F(Folder, ARestoredPoolNumbersOnAboveWhatTheLostTimeGaveOut) {
  create(tiny_job());
  Rig alice = rig("alice");
  advance();
  const protocol::Lease out = alice.take();
  back_up(*core, folder.path / "copy");
  const protocol::Receipt lost = alice.work(out);
  for (int time = 1; time <= 2; ++time) {  // from the same backup, twice
    clock.time += 10;
    const std::filesystem::path data = folder.path / ("restored-" + std::to_string(time));
    restore(folder.path / "copy", data);
    core = std::make_unique<Core>(data, clock);
    pool = std::make_unique<Pool>(data, clock);
    advance();
    const protocol::Lease lease = alice.take();
    EXPECT_EQ(lease.unit.name, lost.unit);
    EXPECT_EQ(lease.attempt, static_cast<uint64_t>(clock.time) + 1);
    alice.work(lease);
    run({&alice});
    EXPECT_EQ(number("SELECT min(sequence) FROM settlements"), 1000 * clock.time + 1);
  }
}

TEST_F(Folder, ABackupThatIsNotWholeIsRefused) {
  create(tiny_job());
  back_up(*core, folder.path / "copy");
  const protocol::Digest weights = core->store.read([](Db& db) {
    SQLite::Statement row(db, "SELECT digest FROM weights");
    row.executeStep();
    return bytes_at(row, 0);
  });
  std::vector<uint8_t> bytes = read_file(blob_path(folder.path / "copy", weights));
  bytes[100] ^= 1;
  write_file(blob_path(folder.path / "copy", weights), bytes);
  EXPECT_EQ(exit_of([&] { restore(folder.path / "copy", folder.path / "a"); }), ExitCode::store);
  std::filesystem::remove(blob_path(folder.path / "copy", weights));
  EXPECT_EQ(exit_of([&] { restore(folder.path / "copy", folder.path / "b"); }), ExitCode::store);
  EXPECT_EQ(exit_of([&] { Core(folder.path / "b", clock); }), ExitCode::store);  // what an interrupted one leaves
}

TEST_F(Folder, ExportWritesTheNewestWeights) {
  create(tiny_job());
  EXPECT_EQ(exit_of([&] { export_job(*core, "none", folder.path / "out"); }), ExitCode::not_found);
  Rig alice = rig("alice");
  run({&alice});
  const Exported exported = export_job(*core, "tiny", folder.path / "out");
  EXPECT_EQ(exported.round, 3u);
  EXPECT_EQ(protocol::to_hex(protocol::sha256_of_file(folder.path / "out" / "model.safetensors")),
            status().weights_digest);

  // A job that goes on from there begins with those weights; tokenizer files come along.
  std::ofstream(folder.path / "out" / "merges.txt") << "#version: 0.2\n";
  JobRequest next = tiny_job("next");
  next.config.reset();
  next.model = folder.path / "out";
  EXPECT_EQ(create(next).description.initial_weights.digest, exported.weights);
  export_job(*core, "next", folder.path / "again");
  EXPECT_TRUE(std::filesystem::exists(folder.path / "again" / "merges.txt"));

  const std::filesystem::path weights = core->store.blob_path(exported.weights);
  std::vector<uint8_t> bytes = read_file(weights);
  bytes.back() ^= 1;
  write_file(weights, bytes);
  EXPECT_EQ(exit_of([&] { export_job(*core, "tiny", folder.path / "damaged"); }), ExitCode::store);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path / "damaged"));
}

}  // namespace
}  // namespace pool::testing
