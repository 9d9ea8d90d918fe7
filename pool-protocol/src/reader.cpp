#include "reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "protocol/error.h"
#include "protocol/json.h"

namespace protocol {
namespace {

bool has_control_character(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 || c == 0x7f) return true;
    // U+0080 … U+009F: terminals obey some of them.
    if (c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0) return true;
  }
  return false;
}

// What stands where something else was expected, short enough for a message.
std::string describe(const nlohmann::json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  return printable(value.dump(-1, ' ', true), 40);
}

}  // namespace

Reader Reader::operator[](const char* name) const& {
  const auto found = object().find(name);
  if (found == value_.end()) Reader(value_, this, name, 0).refuse("is missing");
  return {*found, this, name, 0};
}

bool Reader::has(const char* name) const {
  const auto found = object().find(name);
  return found != value_.end() && !found->is_null();
}

size_t Reader::size(size_t max) const {
  if (!value_.is_array()) expected("an array");
  if (value_.size() > max)
    refuse("has " + std::to_string(value_.size()) + " entries, at most " + std::to_string(max) + " are allowed");
  return value_.size();
}

Reader Reader::at(size_t index) const& { return {value_[index], this, nullptr, index}; }

const nlohmann::json& Reader::object() const {
  if (!value_.is_object()) expected("an object");
  return value_;
}

std::string Reader::string(size_t max_length) const {
  if (!value_.is_string()) expected("a string");
  const std::string& text = value_.get_ref<const std::string&>();
  if (text.size() > max_length) refuse("is longer than " + std::to_string(max_length) + " bytes");
  if (has_control_character(text)) refuse("contains a control character");
  return text;
}

std::string Reader::name_list_entry() const {
  std::string text = string(64);
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-' || c == '/';
  };
  if (text.empty() || !std::ranges::all_of(text, allowed)) expected("a name of letters, digits and ._-/");
  return text;
}

std::string Reader::name() const {
  std::string text = string(64);
  if (!is_name(text)) expected("a name that matches [A-Za-z0-9][A-Za-z0-9._-]{0,63}");
  return text;
}

std::string Reader::job_name() const {
  std::string text = string(32);
  if (!is_job_name(text)) expected("a name that matches [a-z0-9][a-z0-9-]{0,31}");
  return text;
}

std::string Reader::hex16() const {
  std::string text = string(32);
  if (text.size() != 32 || text.find_first_not_of("0123456789abcdef") != std::string::npos)
    expected("32 lowercase hex digits");
  return text;
}

Digest Reader::digest() const { return digest_from_hex(string(64), path()); }

Signature Reader::signature() const { return signature_from_base64(string(88), path()); }

uint64_t Reader::unsigned_integer(uint64_t max, uint64_t min) const {
  const auto wanted = [&] { return "an integer from " + std::to_string(min) + " to " + std::to_string(max); };
  // The parser reads what has no sign as unsigned; values made in C++ may be signed.
  if (!value_.is_number_integer() || (!value_.is_number_unsigned() && value_.get<int64_t>() < 0)) expected(wanted());
  const auto number = value_.get<uint64_t>();
  if (number < min || number > max) expected(wanted());
  return number;
}

int64_t Reader::time() const { return static_cast<int64_t>(unsigned_integer(max_time)); }

uint64_t Reader::decimal(uint64_t max) const {
  const std::string text = string(20);
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || std::to_string(number) != text || number > max)
    expected("a string with an integer from 0 to " + std::to_string(max));
  return number;
}

double Reader::number() const {
  if (!value_.is_number()) expected("a number");
  const auto number = value_.get<double>();
  if (!std::isfinite(number)) expected("a finite number");
  return number;
}

double Reader::number(double min, double max) const {
  const double found = number();
  if (found < min || found > max)
    expected("a number from " + nlohmann::json(min).dump() + " to " + nlohmann::json(max).dump());
  return found;
}

float Reader::fp32() const {
  const double found = number();
  if (std::abs(found) > static_cast<double>(std::numeric_limits<float>::max())) expected("an fp32");
  const auto rounded = static_cast<float>(found);
  if (static_cast<double>(rounded) != found) expected("a number that is exactly an fp32");
  return rounded;
}

bool Reader::boolean() const {
  if (!value_.is_boolean()) expected("true or false");
  return value_.get<bool>();
}

void Reader::refuse(const std::string& problem) const {
  const std::string where = path();
  throw Error(ErrorCode::bad_member, where.empty() ? "the message " + problem : where + ": " + problem);
}

void Reader::expected(const std::string& what) const { refuse("must be " + what + ", not " + describe(value_)); }

std::string Reader::path() const {
  if (!parent_) return {};
  const std::string above = parent_->path();
  if (!name_) return above + "[" + std::to_string(index_) + "]";
  return above.empty() ? name_ : above + "." + name_;
}

}  // namespace protocol
