#include "protocol/json.h"

#include <algorithm>
#include <set>
#include <vector>

#include "protocol/error.h"
#include "reader.h"

namespace protocol {
namespace {

using nlohmann::json;

[[noreturn]] void refuse(const std::string& problem) {
  throw Error(ErrorCode::bad_json, "not usable JSON: " + problem);
}

// The parser's callback: it alone sees depth and every key.
class Bounds {
 public:
  bool operator()(int depth, json::parse_event_t event, json& value) {
    switch (event) {
      case json::parse_event_t::object_start:
        keys_.emplace_back();
        [[fallthrough]];
      case json::parse_event_t::array_start:
        if (depth >= max_json_depth) refuse("more than " + std::to_string(max_json_depth) + " levels deep");
        break;
      case json::parse_event_t::object_end:
        keys_.pop_back();
        break;
      case json::parse_event_t::key:
        if (!keys_.back().insert(value.get<std::string>()).second)
          refuse("the key " + printable(value.dump(-1, ' ', true), 40) + " stands twice in one object");
        break;
      case json::parse_event_t::array_end:
      case json::parse_event_t::value:
        break;
    }
    return true;
  }

 private:
  std::vector<std::set<std::string>> keys_;  // of each object that is open
};

}  // namespace

json parse_object(std::string_view text, size_t max_bytes) {
  if (text.size() > max_bytes)
    throw Error(ErrorCode::too_large, "JSON of " + std::to_string(text.size()) + " bytes, at most " +
                                          std::to_string(max_bytes) + " are allowed");
  // The parser takes a NUL for the end of its input and would not look beyond.
  if (text.find('\0') != std::string_view::npos) refuse("a NUL byte");
  json value;
  try {
    // By reference, as the parser copies its callback.
    Bounds bounds;
    value = json::parse(
        text, [&bounds](int depth, json::parse_event_t event, json& parsed) { return bounds(depth, event, parsed); });
  } catch (const json::exception& error) {
    refuse(printable(error.what(), 200));
  }
  if (!value.is_object()) refuse("it must be an object");
  return value;
}

const json& member(const json& object, const char* name) {
  const Reader reader(object);
  [[maybe_unused]] const Reader found = reader[name];
  return *object.find(name);
}

std::string string_member(const json& object, const char* name, size_t max_length) {
  const Reader reader(object);
  return reader[name].string(max_length);
}

uint64_t unsigned_member(const json& object, const char* name, uint64_t max) {
  const Reader reader(object);
  return reader[name].unsigned_integer(max);
}

double number_member(const json& object, const char* name) {
  const Reader reader(object);
  return reader[name].number();
}

float float_member(const json& object, const char* name) {
  const Reader reader(object);
  return reader[name].fp32();
}

bool bool_member(const json& object, const char* name) {
  const Reader reader(object);
  return reader[name].boolean();
}

bool is_job_name(std::string_view text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !text.empty() && text.size() <= 32 && letter(text[0]) &&
         std::ranges::all_of(text, [&](char c) { return letter(c) || c == '-'; });
}

bool is_name(std::string_view text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  return !text.empty() && text.size() <= 64 && letter(text[0]) &&
         std::ranges::all_of(text, [&](char c) { return letter(c) || c == '.' || c == '_' || c == '-'; });
}

std::string printable(std::string_view text, size_t max_length) {
  constexpr std::string_view ellipsis = "…";
  bool cut = text.size() > max_length;
  // dump() replaces what is not UTF-8, and parse() undoes its escapes.
  const std::string quoted =
      json(std::string(text.substr(0, max_length))).dump(-1, ' ', false, json::error_handler_t::replace);
  std::string clean = json::parse(quoted).get<std::string>();
  for (size_t i = 0; i < clean.size(); ++i) {
    const auto c = static_cast<unsigned char>(clean[i]);
    if (c < 0x20 || c == 0x7f) clean[i] = ' ';
    // U+0080 … U+009F, two bytes: terminals obey some of them.
    if (c == 0xc2 && static_cast<unsigned char>(clean[i + 1]) < 0xa0) clean[i] = clean[i + 1] = ' ';
  }
  cut = cut || clean.size() > max_length;
  if (!cut) return clean;
  size_t end = std::min(clean.size(), max_length - ellipsis.size());
  while (end > 0 && (clean[end] & 0xc0) == 0x80) --end;  // not inside a character
  return clean.substr(0, end).append(ellipsis);
}

}  // namespace protocol
