// The versions of the store's schema (PRAGMA user_version of gradpool.db). schema.sql is the newest; the steps that
// lead to it from older ones are in migrations.cpp, and one is added with each change of schema.sql.
#pragma once

#include <filesystem>
#include <optional>

#include "sql.h"

namespace pool {

// The database's version. Throws Failure(store) where it is newer than this program knows.
int schema_version(Db& db, const std::filesystem::path& folder);
int newest_schema_version();

// Takes the steps that a database of an older version lacks, all in one transaction.
void migrate(Db& db, const std::filesystem::path& folder);

// Brings the folder's database to the newest version, after a copy of it to gradpool.db.schema-N beside it (N: the
// version before). Returns the copy's path; nothing where there is no database or nothing to do. Only for the process
// that serves the folder: an older gradpool must not be at work in it. Throws Failure(store).
std::optional<std::filesystem::path> migrate_folder(const std::filesystem::path& folder);

}  // namespace pool
