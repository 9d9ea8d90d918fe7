#include "backup.h"

#include <SQLiteCpp/Backup.h>

#include "errors.h"
#include "migrations.h"

namespace pool {
namespace {

constexpr int attempts = 3;

struct Blob {
  protocol::Digest digest{};
  uint64_t bytes = 0;
};

// The copied database, as one file: its blobs are what the copy must hold.
std::vector<Blob> copy_database(Db& source, const std::filesystem::path& file) {
  std::filesystem::remove(file);
  Db copy(file.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
  SQLite::Backup(copy, source).executeStep(-1);
  copy.exec("PRAGMA journal_mode = DELETE");
  migrate(copy, file);
  copy.exec("UPDATE pool SET restored = NULL");
  std::vector<Blob> blobs;
  Statement rows(copy, "SELECT digest, bytes FROM blobs WHERE digest IN (SELECT digest FROM referenced_blobs)");
  while (rows.executeStep()) blobs.push_back({bytes_at(rows, 0), number_at(rows, 1)});
  return blobs;
}

// False where the blob is gone.
bool copy_blob(const std::filesystem::path& from, const Store& to, const Blob& blob) {
  const std::filesystem::path target = to.blob_path(blob.digest);
  if (std::filesystem::exists(target)) return true;
  if (!std::filesystem::exists(blob_path(from, blob.digest))) return false;
  StagedWriter writer(to.temporary_path());
  writer.write(read_blob(from, blob.digest).bytes());
  StagedFile file = writer.finish();
  durable_rename(file.path(), target);
  file.release();
  return true;
}

// A new folder with the pool's key. Its layout is the store's own; it has no pool until its database is replaced.
std::unique_ptr<Store> make_folder(const std::filesystem::path& to, const protocol::PrivateKey& key) {
  std::error_code error;
  if (std::filesystem::exists(to, error) && !std::filesystem::is_empty(to, error)) {
    throw Failure(ExitCode::refused, to.string() + " is not empty; give a new folder");
  }
  auto store = std::make_unique<Store>(to, [](Db&) {});
  key.save_new(to / "pool.key");
  return store;
}

// Gives the copied database its name, after everything else is there.
void put_in_place(const std::filesystem::path& database, const std::filesystem::path& folder) {
  sync_file(database);
  for (const char* leftover : {"gradpool.db-wal", "gradpool.db-shm"}) std::filesystem::remove(folder / leftover);
  durable_rename(database, folder / "gradpool.db");
}

}  // namespace

CopyResult back_up(Core& core, const std::filesystem::path& to) {
  const std::unique_ptr<Store> target = make_folder(to, core.key);
  const std::filesystem::path database = to / "gradpool.db.copy";
  for (int attempt = 1;; ++attempt) {
    CopyResult result;
    std::optional<protocol::Digest> gone;
    for (const Blob& blob : core.store.read([&](Db& source) { return copy_database(source, database); })) {
      if (!copy_blob(core.store.folder(), *target, blob)) gone = blob.digest;
      ++result.blobs;
      result.bytes += blob.bytes;
    }
    if (!gone) {
      put_in_place(database, to);
      return result;
    }
    if (attempt < attempts) continue;  // collected after the database was copied
    throw Failure(ExitCode::store, core.store.blob_path(*gone).string() +
                                       " is missing, or rounds close faster than their files can be copied; remove " +
                                       to.string() + " and repeat the backup after gradpool serve was started again");
  }
}

CopyResult restore(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (!std::filesystem::exists(from / "gradpool.db")) {
    throw Failure(ExitCode::not_found, "there is no backup of a pool in " + from.string());
  }
  try {
    Db source((from / "gradpool.db").string());
    if (schema_version(source, from) == 0 || integer(source, 0, "SELECT count(*) FROM pool") == 0) {
      throw Failure(ExitCode::store, from.string() + " is an interrupted backup; use another one");
    }
    const std::unique_ptr<Store> target = make_folder(to, protocol::PrivateKey::load(from / "pool.key"));
    const std::filesystem::path database = to / "gradpool.db.copy";
    CopyResult result;
    for (const Blob& blob : copy_database(source, database)) {
      if (!copy_blob(from, *target, blob)) {
        throw Failure(ExitCode::store,
                      blob_path(from, blob.digest).string() + " is missing: this backup is not whole; use another one");
      }
      ++result.blobs;
      result.bytes += blob.bytes;
    }
    put_in_place(database, to);
    return result;
  } catch (const SQLite::Exception& error) {
    throw Failure(ExitCode::store, (from / "gradpool.db").string() + " cannot be restored from: " + error.what());
  }
}

}  // namespace pool
