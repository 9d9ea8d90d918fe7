// The committed store of schema version 1 (store_1/README.md) as a folder that can be opened.
#pragma once

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "sql.h"

namespace pool::testing {

inline void make_store_1(const std::filesystem::path& data) {
  const std::filesystem::path source = STORE_1_FOLDER;
  std::filesystem::create_directories(data);
  std::filesystem::copy_file(source / "pool.key", data / "pool.key");
  std::filesystem::permissions(data / "pool.key", std::filesystem::perms(0600));
  for (const auto& entry : std::filesystem::directory_iterator(source / "blobs")) {
    const std::string name = entry.path().filename().string();
    std::filesystem::create_directories(data / "blobs" / name.substr(0, 2));
    std::filesystem::copy_file(entry.path(), data / "blobs" / name.substr(0, 2) / name);
  }
  std::ifstream file(source / "gradpool.sql");
  std::stringstream sql;
  sql << file.rdbuf();
  Db db((data / "gradpool.db").string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE);
  db.exec(sql.str());
  db.exec("PRAGMA user_version = 1");
}

}  // namespace pool::testing
