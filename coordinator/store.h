// The pool's folder: gradpool.db (SQLite in WAL mode) and blobs/ab/<digest>, named by SHA-256.
// Thread-safe; several processes may use one folder at once. Failures are Failure(ExitCode::store) that name the file
// and the reason, and then nothing is changed.
#pragma once

#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "files.h"
#include "kernels/ops.h"
#include "protocol/digest.h"
#include "sql.h"
#include "temporary.h"

namespace pool {

// Where a blob of that data folder lies.
std::filesystem::path blob_path(const std::filesystem::path& folder, const protocol::Digest& digest);
// Throws Failure where what was read of it does not have its digest any more.
void require_whole(const std::filesystem::path& folder, const protocol::Digest& digest, const MappedFile& blob);
// Its content, which is whole.
MappedFile read_blob(const std::filesystem::path& folder, const protocol::Digest& digest);

class Store {
 public:
  // Opens the folder, and makes it where it is missing. `prepare` runs inside the transaction that made the schema.
  // Refuses another version of the schema (migrations.h). Removes the unfinished files of processes that are gone.
  Store(const std::filesystem::path& folder, const std::function<void(Db&)>& prepare);

  // All of `body` happens, synced, or, when it throws, nothing. Keep it short: writers wait for one another. Those that
  // wait meanwhile share the next transaction and its sync to disk, so `body` may run on another's thread.
  template <class Body>
  auto write(Body&& body) {
    using Result = decltype(body(std::declval<Db&>()));
    return guarded([&] {
      if constexpr (std::is_void_v<Result>) {
        write_with_others([&](Db& db) { body(db); });
      } else {
        std::optional<Result> result;
        write_with_others([&](Db& db) { result.emplace(body(db)); });
        return std::move(*result);
      }
    });
  }
  // As write(), but a power failure may undo it until a later write() has returned: that one's sync to disk covers
  // both.
  template <class Body>
  auto write_unsynced(Body&& body) {
    return guarded([&] {
      const std::lock_guard<std::mutex> one_writer(writer_);
      if (!unsynced_) {
        unsynced_ = connect();
        unsynced_->exec("PRAGMA synchronous = NORMAL");
      }
      try {
        SQLite::Transaction transaction(*unsynced_, SQLite::TransactionBehavior::IMMEDIATE);
        return commit_after(body, *unsynced_, transaction);
      } catch (const SQLite::Exception&) {
        unsynced_.reset();  // as rethrow() does with the others
        throw;
      }
    });
  }
  // One consistent view.
  template <class Body>
  auto read(Body&& body) const {
    return guarded([&] {
      Lent connection = lend();
      SQLite::Transaction transaction(connection.db());
      return commit_after(body, connection.db(), transaction);
    });
  }

  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path blob_path(const protocol::Digest& digest) const { return pool::blob_path(folder_, digest); }
  MappedFile read_blob(const protocol::Digest& digest) const { return pool::read_blob(folder_, digest); }
  std::filesystem::path upload_path(const protocol::PublicKey& key, const protocol::Digest& digest) const;
  std::filesystem::path uploads() const { return folder_ / "uploads"; }
  // A fresh name for a file being written, in a folder of this object's own.
  std::filesystem::path temporary_path() const;

  // Gives a staged file its lasting name; inside the transaction that refers to it, so that collection cannot
  // come between.
  void publish(Db& db, StagedFile& file);
  // Removes blobs that nothing refers to.
  void collect_garbage();

 private:
  struct Free {
    const Store* store;
    void operator()(Db* db) const { store->give_back(db); }
  };
  class Lent {
   public:
    Lent(Db* db, const Store* store) : db_(db, Free{store}) {}
    Db& db() { return *db_; }

   private:
    std::unique_ptr<Db, Free> db_;
  };
  // A caller's body that waits for a transaction.
  struct Write {
    std::function<void(Db&)> body;
    bool done = false;
    std::exception_ptr failure = nullptr;
  };
  void write_with_others(std::function<void(Db&)> body);
  void write_together(const std::vector<Write*>& writes);

  Lent lend() const;
  void give_back(Db* db) const;
  std::unique_ptr<Db> connect() const;
  void open_schema(Db& db, const std::function<void(Db&)>& prepare) const;

  template <class Body>
  static auto commit_after(Body& body, Db& db, SQLite::Transaction& transaction) {
    if constexpr (std::is_void_v<decltype(body(db))>) {
      body(db);
      transaction.commit();
    } else {
      auto result = body(db);
      transaction.commit();
      return result;
    }
  }
  template <class Action>
  auto guarded(Action&& action) const {
    try {
      return action();
    } catch (const SQLite::Exception& error) {
      rethrow(error);
    }
  }
  [[noreturn]] void rethrow(const SQLite::Exception& error) const;

  std::filesystem::path folder_;
  std::unique_ptr<TemporaryFolder> temporary_;
  std::mutex writer_;             // spares threads of one process SQLite's polling for the write lock
  std::mutex waiting_mutex_;      // held for moments only
  std::vector<Write*> waiting_;   // in the order that they came
  std::unique_ptr<Db> unsynced_;  // under writer_
  mutable std::mutex idle_mutex_;
  mutable std::vector<std::unique_ptr<Db>> idle_;
};

}  // namespace pool
