// A thin layer over SQLiteCpp: statements with bound values, and columns of our types.
#pragma once

#include <SQLiteCpp/SQLiteCpp.h>

#include <array>
#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "protocol/digest.h"
#include "protocol/keys.h"

namespace pool {

// A connection that keeps its statements prepared: to parse one takes longer than to run it. Texts must come from a
// small set, values be bound. Not thread-safe.
class Db : public SQLite::Database {
 public:
  using SQLite::Database::Database;

 private:
  friend class Statement;
  SQLite::Statement take(const std::string& text) {
    std::vector<SQLite::Statement>& idle = idle_[text];
    if (idle.empty()) return {*this, text};
    SQLite::Statement statement = std::move(idle.back());
    idle.pop_back();
    return statement;
  }
  void give_back(SQLite::Statement&& statement) noexcept {
    statement.tryReset();
    statement.clearBindings();  // cannot fail
    idle_.find(statement.getQuery())->second.push_back(std::move(statement));
  }

  std::unordered_map<std::string, std::vector<SQLite::Statement>> idle_;
};

// A statement that its connection lends. Hold it as what it is: an SQLite::Statement made of one would keep it.
class Statement : public SQLite::Statement {
 public:
  Statement(Db& db, const std::string& text) : SQLite::Statement(db.take(text)), db_(&db) {}
  Statement(Statement&& other) noexcept : SQLite::Statement(std::move(other)), db_(std::exchange(other.db_, nullptr)) {}
  ~Statement() {
    if (db_ != nullptr) db_->give_back(std::move(*this));
  }

 private:
  Db* db_;
};

namespace sql {

template <class T>
void bind(SQLite::Statement& statement, int index, const T& value) {
  if constexpr (std::integral<T>) {
    statement.bind(index, static_cast<int64_t>(value));
  } else if constexpr (std::floating_point<T>) {
    statement.bind(index, static_cast<double>(value));
  } else if constexpr (std::convertible_to<T, std::string>) {
    statement.bind(index, std::string(value));
  } else {  // bytes
    const std::span<const uint8_t> bytes(value);
    statement.bind(index, static_cast<const void*>(bytes.data()), static_cast<int>(bytes.size()));
  }
}
template <class T>
void bind(SQLite::Statement& statement, int index, const std::optional<T>& value) {
  if (value) {
    bind(statement, index, *value);
  } else {
    statement.bind(index);  // null
  }
}

}  // namespace sql

// A statement with its parameters bound, to be stepped with executeStep().
template <class... Values>
Statement query(Db& db, const char* text, const Values&... values) {
  Statement statement(db, text);
  [[maybe_unused]] int index = 0;
  (sql::bind(statement, ++index, values), ...);
  return statement;
}

// Runs a statement that returns no rows; the number of rows changed.
template <class... Values>
int execute(Db& db, const char* text, const Values&... values) {
  return query(db, text, values...).exec();
}

// The first column of the first row, or `missing`.
template <class... Values>
int64_t integer(Db& db, int64_t missing, const char* text, const Values&... values) {
  Statement statement = query(db, text, values...);
  return statement.executeStep() && !statement.isColumnNull(0) ? statement.getColumn(0).getInt64() : missing;
}

template <size_t N = 32>
std::array<uint8_t, N> bytes_at(SQLite::Statement& row, int column) {
  const SQLite::Column value = row.getColumn(column);
  std::array<uint8_t, N> bytes{};
  if (value.getBytes() != N) throw SQLite::Exception("column " + std::string(value.getName()) + " has a wrong length");
  const auto* data = static_cast<const uint8_t*>(value.getBlob());
  std::copy(data, data + N, bytes.begin());
  return bytes;
}
inline uint64_t number_at(SQLite::Statement& row, int column) {
  return static_cast<uint64_t>(row.getColumn(column).getInt64());
}
inline std::string text_at(SQLite::Statement& row, int column) { return row.getColumn(column).getString(); }

}  // namespace pool
