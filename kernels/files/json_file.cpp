#include "files/json_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <system_error>
#include <vector>

namespace kernels {

using nlohmann::json;

json parse_json(std::string_view text) {
  constexpr size_t deepest = 16;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  std::string place;  // the key read last; of a number that is too large the library says no more than its digits
  const auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    if (static_cast<size_t>(depth) > deepest) throw std::runtime_error("JSON nested too deeply");
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key) {
      if (!keys.back().insert(parsed.get<std::string>()).second)
        throw std::runtime_error("the key " + shown(parsed) + " appears twice");
      place = " after the key " + shown(parsed);
    }
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), check);
  } catch (const json::exception& error) {
    throw std::runtime_error("not valid JSON" + place + ": " + error.what());
  }
}

json read_json_file(const std::filesystem::path& file) {
  constexpr std::streamoff largest = 64 << 20;
  std::ifstream in(file, std::ios::binary | std::ios::ate);
  if (!in) throw std::runtime_error(file.string() + ": cannot be opened: " + std::generic_category().message(errno));
  const std::streamoff size = in.tellg();
  if (size < 0 || size > largest)
    throw std::runtime_error(file.string() + ": not a file of at most " + std::to_string(largest) + " bytes");
  std::string text(static_cast<size_t>(size), '\0');
  if (!in.seekg(0).read(text.data(), size)) throw std::runtime_error(file.string() + ": cannot be read");
  try {
    return parse_json(text);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(file.string() + ": " + error.what());
  }
}

std::string shown(const json& value) {
  constexpr size_t longest = 100;
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() <= longest) return text;
  size_t end = longest;
  while ((text[end] & 0xc0) == 0x80) --end;  // not inside a character
  return text.substr(0, end) + "…";
}

}  // namespace kernels
