#include "migrations.h"

#include <SQLiteCpp/Backup.h>

#include <iterator>
#include <string>

#include "errors.h"
#include "files.h"

namespace pool {
namespace {

// Step i leads from version i + 1 to the next. A step never changes once it was released.
constexpr const char* steps[] = {
    "ALTER TABLE pool ADD COLUMN restored INTEGER DEFAULT 0",
};

}  // namespace

int newest_schema_version() { return 1 + static_cast<int>(std::size(steps)); }

int schema_version(Db& db, const std::filesystem::path& folder) {
  const int version = db.execAndGet("PRAGMA user_version").getInt();
  if (version > newest_schema_version()) {
    throw Failure(ExitCode::store, folder.string() + " was written by a newer gradpool (schema " +
                                       std::to_string(version) + ", this one knows up to " +
                                       std::to_string(newest_schema_version()) + "); use that version or a newer one");
  }
  return version;
}

void migrate(Db& db, const std::filesystem::path& folder) {
  SQLite::Transaction transaction(db, SQLite::TransactionBehavior::IMMEDIATE);
  for (int version = schema_version(db, folder); version < newest_schema_version(); ++version)
    db.exec(steps[version - 1]);
  db.exec("PRAGMA user_version = " + std::to_string(newest_schema_version()));
  transaction.commit();
}

std::optional<std::filesystem::path> migrate_folder(const std::filesystem::path& folder) try {
  const std::filesystem::path file = folder / "gradpool.db";
  if (!std::filesystem::exists(file)) return std::nullopt;
  Db db(file.string(), SQLite::OPEN_READWRITE);
  db.exec("PRAGMA synchronous = FULL");
  const int version = schema_version(db, folder);
  if (version == 0 || version == newest_schema_version()) return std::nullopt;
  const std::filesystem::path copy = file.string() + ".schema-" + std::to_string(version);
  const std::filesystem::path unfinished = copy.string() + ".unfinished";
  std::filesystem::remove(unfinished);
  {
    Db target(unfinished.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
    SQLite::Backup(target, db).executeStep(-1);
    target.exec("PRAGMA journal_mode = DELETE");  // one file
  }
  sync_file(unfinished);
  durable_rename(unfinished, copy);
  migrate(db, folder);
  return copy;
} catch (const SQLite::Exception& error) {
  throw Failure(ExitCode::store, (folder / "gradpool.db").string() + " cannot be brought up to date: " + error.what() +
                                     "; it is as it was: mend the reason (room, permissions) and start again");
}

}  // namespace pool
