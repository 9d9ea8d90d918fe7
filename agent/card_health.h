// What the sensors of cards say, for people and for programs.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/card_sensors.h"

namespace agent {

// Behind what is said of an NVML that is missing.
constexpr char without_sensors[] = "; temperature, fan, power, clocks and slowdowns of cards are not shown";

// What keeps its clocks down: "heat", "power brake", "hardware", "power limit".
std::vector<std::string> names_of(const kernels::Slowdown& slowdown);

// Each empty where it is not known.
struct HealthTexts {
  std::string temperature, fan, power;  // "61 C", "45 %", "118 of 120 W"
  std::string clock, memory_clock;      // "1708 MHz"
  std::string slowed_by;                // "heat, power limit", "nothing"
};
HealthTexts texts_of(const kernels::CardHealth& health);

// What is known, and the problem, if there is one.
nlohmann::ordered_json health_json(const kernels::CardHealth& health);

// "heat, power limit".
std::string comma_list(const std::vector<std::string>& names);

}  // namespace agent
