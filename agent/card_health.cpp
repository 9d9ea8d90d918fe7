#include "card_health.h"

#include <cmath>

namespace agent {
namespace {

template <class Number>
std::string with_unit(const std::optional<Number>& value, const char* unit) {
  return value ? std::to_string(std::lround(*value)) + unit : "";
}

}  // namespace

std::vector<std::string> names_of(const kernels::Slowdown& slowdown) {
  std::vector<std::string> names;
  if (slowdown.heat) names.push_back("heat");
  if (slowdown.power_brake) names.push_back("power brake");
  if (slowdown.hardware) names.push_back("hardware");
  if (slowdown.power_limit) names.push_back("power limit");
  return names;
}

HealthTexts texts_of(const kernels::CardHealth& health) {
  HealthTexts texts;
  texts.temperature = with_unit(health.temperature_celsius, " C");
  texts.fan = with_unit(health.fan_percent, " %");
  texts.power = with_unit(health.power_watts, " W");
  if (health.power_watts && health.power_limit_watts) {
    texts.power = with_unit(health.power_watts, " of ") + with_unit(health.power_limit_watts, " W");
  }
  texts.clock = with_unit(health.clock_mhz, " MHz");
  texts.memory_clock = with_unit(health.memory_clock_mhz, " MHz");
  if (health.slowdown) {
    const std::vector<std::string> names = names_of(*health.slowdown);
    texts.slowed_by = names.empty() ? "nothing" : comma_list(names);
  }
  return texts;
}

nlohmann::ordered_json health_json(const kernels::CardHealth& health) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  if (health.temperature_celsius) json["temperature_celsius"] = *health.temperature_celsius;
  if (health.fan_percent) json["fan_percent"] = *health.fan_percent;
  if (health.power_watts) json["power_watts"] = *health.power_watts;
  if (health.power_limit_watts) json["power_limit_watts"] = *health.power_limit_watts;
  if (health.clock_mhz) json["clock_mhz"] = *health.clock_mhz;
  if (health.memory_clock_mhz) json["memory_clock_mhz"] = *health.memory_clock_mhz;
  if (health.slowdown) json["slowed_by"] = names_of(*health.slowdown);
  if (!health.problem.empty()) json["problem"] = health.problem;
  return json;
}

std::string comma_list(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace agent
