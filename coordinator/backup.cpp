#include "backup.h"

#include <SQLiteCpp/Backup.h>

#include "errors.h"

namespace pool {
namespace {

constexpr int attempts = 3;

struct Blob {
  protocol::Digest digest{};
  uint64_t bytes = 0;
};

// The copied database, as one file: its blobs are what the copy must hold.
std::vector<Blob> copy_database(Core& core, const std::filesystem::path& file) {
  std::filesystem::remove(file);
  return core.store.read([&](Db& source) {
    Db copy(file.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
    SQLite::Backup(copy, source).executeStep(-1);
    copy.exec("PRAGMA journal_mode = DELETE");
    std::vector<Blob> blobs;
    SQLite::Statement rows(copy,
                           "SELECT digest, bytes FROM blobs WHERE digest IN (SELECT digest FROM referenced_blobs)");
    while (rows.executeStep()) blobs.push_back({bytes_at(rows, 0), number_at(rows, 1)});
    return blobs;
  });
}

// False where the blob is gone: collected after the database was copied.
bool copy_blob(const Store& from, const Store& to, const Blob& blob) {
  const std::filesystem::path target = to.blob_path(blob.digest);
  if (std::filesystem::exists(target)) return true;
  if (!std::filesystem::exists(from.blob_path(blob.digest))) return false;
  StagedWriter writer(to.temporary_path());
  writer.write(from.read_blob(blob.digest).bytes());
  StagedFile file = writer.finish();
  durable_rename(file.path(), target);
  file.release();
  return true;
}

}  // namespace

BackupResult back_up(Core& core, const std::filesystem::path& out) {
  std::error_code error;
  if (std::filesystem::exists(out, error) && !std::filesystem::is_empty(out, error)) {
    throw Failure(ExitCode::refused, out.string() + " is not empty; give a new folder");
  }
  // The folder's layout is the store's own; its database is replaced by the copy before anything reads it.
  const Store target(out, [](Db&) {});
  core.key.save_new(out / "pool.key");
  const std::filesystem::path database = out / "gradpool.db.copy";
  for (int attempt = 1;; ++attempt) {
    const std::vector<Blob> blobs = copy_database(core, database);
    BackupResult result;
    bool complete = true;
    for (const Blob& blob : blobs) {
      complete = copy_blob(core.store, target, blob) && complete;
      ++result.blobs;
      result.bytes += blob.bytes;
    }
    if (complete) {
      sync_file(database);
      for (const char* leftover : {"gradpool.db-wal", "gradpool.db-shm"}) std::filesystem::remove(out / leftover);
      durable_rename(database, out / "gradpool.db");
      return result;
    }
    if (attempt == attempts)
      throw Failure(ExitCode::unexpected, "rounds closed faster than their files could be copied; repeat the backup");
  }
}

}  // namespace pool
