#include "files/config_reader.h"

#include <cfloat>
#include <charconv>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "files/json_file.h"

namespace kernels {

using nlohmann::json;

void refuse(const std::string& key, const std::string& value, const std::string& supported) {
  throw std::invalid_argument("model config: " + key + " = " + value + "; supported: " + supported);
}

size_t read_size(const json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) refuse(key, "(missing)", "a whole number");
  if (!found->is_number_unsigned()) refuse(key, shown(*found), "a whole number above 0");
  return found->get<size_t>();
}

size_t read_size(const json& config, const char* key, size_t fallback) {
  return config.contains(key) && !config.at(key).is_null() ? read_size(config, key) : fallback;
}

double read_number(const json& config, const char* key, double least, double most, double fallback) {
  const auto found = config.find(key);
  if (found == config.end()) return fallback;
  if (!found->is_number() || !(found->get<double>() >= least && found->get<double>() <= most))
    refuse(key, shown(*found), "a number from " + shown(least) + " to " + shown(most));
  return found->get<double>();
}

bool read_flag(const json& config, const char* key, bool fallback) {
  const auto found = config.find(key);
  if (found == config.end()) return fallback;
  if (!found->is_boolean()) refuse(key, shown(*found), "true or false");
  return found->get<bool>();
}

float read_epsilon(const json& config, const char* key, float fallback) {
  const auto found = config.find(key);
  if (found == config.end()) return fallback;
  if (!found->is_number() || !(found->get<double>() >= double{FLT_MIN} && found->get<double>() <= 1))
    refuse(key, shown(*found), "a number above 1.2e-38 and at most 1");
  return static_cast<float>(found->get<double>());
}

void require_flag(const json& config, const char* key, bool supported) {
  const auto found = config.find(key);
  if (found == config.end() || *found == json(supported)) return;
  refuse(key, shown(*found), supported ? "true" : "false");
}

void require_number(const json& config, const char* key, int supported) {
  const auto found = config.find(key);
  if (found == config.end() || (found->is_number() && *found == json(supported))) return;
  refuse(key, shown(*found), std::to_string(supported));
}

void require_text(const json& config, const char* key, std::initializer_list<const char*> supported) {
  const auto found = config.find(key);
  if (found == config.end()) return;
  std::string list;
  for (const char* value : supported) {
    if (*found == json(value)) return;
    list += (list.empty() ? "\"" : " or \"") + std::string(value) + "\"";
  }
  refuse(key, shown(*found), list);
}

double shortest(float value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  double result = 0;
  std::from_chars(text, end, result);
  return result;
}

}  // namespace kernels
