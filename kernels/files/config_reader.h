// The keys of a config.json, one by one. Every refusal is a std::invalid_argument that names the key, its value and
// what is supported. A function with a fallback or a required value takes an absent key for it.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace kernels {

[[noreturn]] void refuse(const std::string& key, const std::string& value, const std::string& supported);

size_t read_size(const nlohmann::json& config, const char* key);
// A null counts as absent.
size_t read_size(const nlohmann::json& config, const char* key, size_t fallback);
double read_number(const nlohmann::json& config, const char* key, double least, double most, double fallback);
bool read_flag(const nlohmann::json& config, const char* key, bool fallback);
// A norm's epsilon.
float read_epsilon(const nlohmann::json& config, const char* key, float fallback);

void require_flag(const nlohmann::json& config, const char* key, bool supported);
void require_number(const nlohmann::json& config, const char* key, int supported);
void require_text(const nlohmann::json& config, const char* key, std::initializer_list<const char*> supported);

// The shortest decimal of a float, as a double: 1e-05 and not 9.99999974737875e-06.
double shortest(float value);

}  // namespace kernels
