// Bounded JSON and member access that names what is wrong.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace protocol {

constexpr size_t max_json_bytes = 1 << 20;
constexpr int max_json_depth = 16;
constexpr int64_t max_time = 9'999'999'999;  // ten digits of Unix seconds; also keeps sums far from overflow

// Refuses more than max_bytes, more than max_json_depth levels, duplicate keys, anything after the value, and
// a top level that is not an object. Throws Error(bad_json) or Error(too_large).
nlohmann::json parse_object(std::string_view text, size_t max_bytes = max_json_bytes);

// Members. All throw Error(bad_member) naming the member, what it is and what it should be. Integers must be written
// as such (1.0 is refused); strings are refused with control characters in them.
const nlohmann::json& member(const nlohmann::json& object, const char* name);
std::string string_member(const nlohmann::json& object, const char* name, size_t max_length = 1024);
uint64_t unsigned_member(const nlohmann::json& object, const char* name, uint64_t max = UINT64_MAX >> 1);
double number_member(const nlohmann::json& object, const char* name);  // finite
float float_member(const nlohmann::json& object, const char* name);    // finite, exactly an fp32
bool bool_member(const nlohmann::json& object, const char* name);

// Text from anywhere made fit for a message, a log or a terminal: valid UTF-8, control characters replaced by spaces,
// at most max_length >= 3 bytes ("…" at the end where it was cut).
std::string printable(std::string_view text, size_t max_length);

// Names of section 1.
bool is_job_name(std::string_view text);
bool is_name(std::string_view text);  // accounts, rigs

}  // namespace protocol
