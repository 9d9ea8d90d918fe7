#include "store.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "errors.h"
#include "migrations.h"
#include "protocol/keys.h"
#include "schema_sql.h"

namespace pool {
namespace {

constexpr int busy_timeout_ms = 10000;

// Held while a folder is made or opened, so that two first starts do not meet.
class OpeningLock {
 public:
  explicit OpeningLock(const std::filesystem::path& file)
      : descriptor_(open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    if (descriptor_ < 0 || flock(descriptor_, LOCK_EX) != 0) {
      throw Failure(ExitCode::store,
                    "cannot use the data folder: " + file.string() + ": " + std::generic_category().message(errno));
    }
  }
  ~OpeningLock() { close(descriptor_); }
  OpeningLock(const OpeningLock&) = delete;
  OpeningLock& operator=(const OpeningLock&) = delete;

 private:
  int descriptor_;
};

// Runs one of the bodies that share a transaction. What it threw, and then its changes alone are taken back; throws
// where SQLite gave up the whole transaction.
std::exception_ptr failure_of(Db& db, const std::function<void(Db&)>& body) {
  std::exception_ptr failure;
  db.exec("SAVEPOINT body");
  try {
    body(db);
  } catch (...) {
    if (sqlite3_get_autocommit(db.getHandle()) != 0) throw;
    failure = std::current_exception();
    db.exec("ROLLBACK TO body");
  }
  db.exec("RELEASE body");
  return failure;
}

}  // namespace

std::filesystem::path blob_path(const std::filesystem::path& folder, const protocol::Digest& digest) {
  const std::string name = protocol::to_hex(digest);
  return folder / "blobs" / name.substr(0, 2) / name;
}
void require_whole(const std::filesystem::path& folder, const protocol::Digest& digest, const MappedFile& blob) {
  if (protocol::sha256(blob.bytes()) == digest) return;
  throw Failure(ExitCode::store, blob_path(folder, digest).string() +
                                     " is damaged: its digest is not its name; gradpool serve repairs "
                                     "what it can when it is started again");
}
MappedFile read_blob(const std::filesystem::path& folder, const protocol::Digest& digest) {
  MappedFile file(blob_path(folder, digest));
  require_whole(folder, digest, file);
  return file;
}

Store::Store(const std::filesystem::path& folder, const std::function<void(Db&)>& prepare)
    : folder_(std::filesystem::absolute(folder)) {
  make_directories(folder_);
  const OpeningLock lock(folder_ / "lock");
  for (const char* part : {"blobs", "uploads", "temporary"}) make_directory(folder_ / part);
  if (!std::filesystem::exists(folder_ / "blobs" / "ff")) {
    constexpr char digits[] = "0123456789abcdef";
    for (int i = 0; i < 256; ++i) make_directory(folder_ / "blobs" / std::string{digits[i / 16], digits[i % 16]});
  }
  sync_directory(folder_ / "blobs");  // even where they are there: who made them may have died before
  sync_directory(folder_);
  guarded([&] {
    std::unique_ptr<Db> db = connect();
    open_schema(*db, prepare);
    idle_.push_back(std::move(db));
  });
  temporary_ = std::make_unique<TemporaryFolder>(folder_ / "temporary");
}

std::unique_ptr<Db> Store::connect() const {
  auto db = std::make_unique<Db>((folder_ / "gradpool.db").string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE,
                                 busy_timeout_ms);
  db->exec("PRAGMA journal_mode = WAL");
  db->exec("PRAGMA synchronous = FULL");
  db->exec("PRAGMA foreign_keys = ON");
  db->exec("PRAGMA temp_store = MEMORY");  // what a savepoint may have to take back
  db->exec("PRAGMA cache_size = -512");    // KiB; the kernel keeps the file's pages once for all connections
  return db;
}

void Store::open_schema(Db& db, const std::function<void(Db&)>& prepare) const {
  SQLite::Transaction transaction(db, SQLite::TransactionBehavior::IMMEDIATE);
  const int version = schema_version(db, folder_);
  if (version == 0) {
    db.exec(schema_sql);
    prepare(db);
    db.exec("PRAGMA user_version = " + std::to_string(newest_schema_version()));
  } else if (version < newest_schema_version()) {
    throw Failure(ExitCode::store, folder_.string() + " was written by an older gradpool (schema " +
                                       std::to_string(version) + ", this one has " +
                                       std::to_string(newest_schema_version()) +
                                       "); stop that one and start gradpool serve of this version: it keeps a copy of "
                                       "the database and then brings it up to date");
  }
  transaction.commit();
}

// Whoever is first through the door writes for all that wait outside it.
void Store::write_with_others(std::function<void(Db&)> body) {
  Write mine{std::move(body)};
  {
    const std::lock_guard<std::mutex> lock(waiting_mutex_);
    waiting_.push_back(&mine);
  }
  {
    const std::lock_guard<std::mutex> one_writer(writer_);
    if (!mine.done) {
      std::vector<Write*> writes;
      {
        const std::lock_guard<std::mutex> lock(waiting_mutex_);
        writes.swap(waiting_);
      }
      write_together(writes);
    }
  }
  if (mine.failure) std::rethrow_exception(mine.failure);
}

void Store::write_together(const std::vector<Write*>& writes) {
  try {
    Lent connection = lend();
    SQLite::Transaction transaction(connection.db(), SQLite::TransactionBehavior::IMMEDIATE);
    if (writes.size() == 1) {
      writes.front()->body(connection.db());
    } else {
      for (Write* write : writes) write->failure = failure_of(connection.db(), write->body);
    }
    transaction.commit();
  } catch (...) {
    for (Write* write : writes) {
      if (!write->failure) write->failure = std::current_exception();
    }
  }
  for (Write* write : writes) write->done = true;
}

Store::Lent Store::lend() const {
  {
    const std::lock_guard<std::mutex> lock(idle_mutex_);
    if (!idle_.empty()) {
      Db* db = idle_.back().release();
      idle_.pop_back();
      return Lent(db, this);
    }
  }
  return Lent(connect().release(), this);
}

void Store::give_back(Db* db) const {
  const std::lock_guard<std::mutex> lock(idle_mutex_);
  idle_.emplace_back(db);
}

// Connections that met an error are not used again: one whose file could not be opened once, for want of descriptors
// or for a bad moment of the disk, stays read-only for good.
void Store::rethrow(const SQLite::Exception& error) const {
  {
    const std::lock_guard<std::mutex> lock(idle_mutex_);
    idle_.clear();
  }
  const std::string file = (folder_ / "gradpool.db").string();
  switch (error.getErrorCode()) {
    case SQLITE_FULL:
      throw Failure(ExitCode::store, "the disk of " + file + " is full: nothing was changed; make room and repeat");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      throw Failure(ExitCode::store, file + " stayed locked by another process for " +
                                         std::to_string(busy_timeout_ms / 1000) + " seconds; repeat later");
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
      throw Failure(ExitCode::store, file + " is damaged (" + error.what() + "); restore it from a backup");
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
      throw Failure(ExitCode::store,
                    "cannot open " + file + " for writing (" + error.what() + "); check who owns the folder");
    default:
      throw Failure(ExitCode::store, file + ": " + error.what());
  }
}

std::filesystem::path Store::upload_path(const protocol::PublicKey& key, const protocol::Digest& digest) const {
  return uploads() / (protocol::to_hex(key) + "-" + protocol::to_hex(digest));
}
std::filesystem::path Store::temporary_path() const { return temporary_->path() / protocol::random_hex16(); }

void Store::publish(Db& db, StagedFile& file) {
  durable_rename(file.path(), blob_path(file.digest()));
  file.release();
  execute(db, "INSERT OR IGNORE INTO blobs VALUES (?, ?)", file.digest(), file.bytes());
}

void Store::collect_garbage() {
  write([&](Db& db) {
    std::vector<protocol::Digest> unreferenced;
    Statement rows = query(db, "SELECT digest FROM blobs WHERE digest NOT IN (SELECT digest FROM referenced_blobs)");
    while (rows.executeStep()) unreferenced.push_back(bytes_at(rows, 0));
    for (const protocol::Digest& digest : unreferenced) {
      // The row goes only with the file: after a crash in between the next collection finds it again.
      if (unlink(blob_path(digest).c_str()) != 0 && errno != ENOENT) continue;
      execute(db, "DELETE FROM blobs WHERE digest = ?", digest);
    }
  });
}

}  // namespace pool
