// A JSON value and where it stands, so that a refusal names its path: "unit.shards[2].tokens: must be …".
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "protocol/digest.h"
#include "protocol/keys.h"

namespace protocol {

// A view: the value and the reader it came from must outlive it (hence no reading of members of a temporary).
// Every method throws Error(bad_member).
class Reader {
 public:
  explicit Reader(const nlohmann::json& value) : value_(value) {}

  Reader operator[](const char* name) const&;  // a member, which must be there
  Reader operator[](const char* name) const&& = delete;
  bool has(const char* name) const;  // there and not null
  size_t size(size_t max) const;     // of an array
  Reader at(size_t index) const&;    // of an array, index < size
  Reader at(size_t index) const&& = delete;

  const nlohmann::json& object() const;
  std::string string(size_t max_length) const;  // without control characters
  std::string name_list_entry() const;          // 1 to 64 of A-Z a-z 0-9 . _ - /
  std::string name() const;
  std::string job_name() const;
  std::string hex16() const;
  Digest digest() const;
  Signature signature() const;
  uint64_t unsigned_integer(uint64_t max, uint64_t min = 0) const;
  int64_t time() const;
  uint64_t decimal(uint64_t max) const;  // an integer written as a string
  double number() const;                 // finite
  double number(double min, double max) const;
  float fp32() const;
  bool boolean() const;

  [[noreturn]] void refuse(const std::string& problem) const;

 private:
  Reader(const nlohmann::json& value, const Reader* parent, const char* name, size_t index)
      : value_(value), parent_(parent), name_(name), index_(index) {}
  std::string path() const;
  [[noreturn]] void expected(const std::string& what) const;

  const nlohmann::json& value_;
  const Reader* parent_ = nullptr;
  const char* name_ = nullptr;  // null: an element of an array
  size_t index_ = 0;
};

constexpr uint64_t max_integer = UINT64_MAX >> 1;  // what SQL and most languages can hold

}  // namespace protocol
