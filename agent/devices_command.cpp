#include "devices_command.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "engine.h"
#include "system_info.h"

namespace agent {
namespace {

std::string list(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

void devices_command(bool json) {
  nlohmann::ordered_json cpu{{"device", "cpu"},
                             {"name", cpu_name()},
                             {"cores", usable_cores()},
                             {"simd", simd_paths()},
                             {"memory_bytes", memory_total()},
                             {"memory_available_bytes", memory_available()},
                             {"profiles", engine_profiles()}};
  if (json) {
    std::printf("%s\n", nlohmann::ordered_json{{"devices", {cpu}}}.dump().c_str());
    return;
  }
  std::printf("cpu  %s\n", cpu_name().c_str());
  std::printf("     cores     %zu\n", usable_cores());
  std::printf("     SIMD      %s\n", list(simd_paths()).c_str());
  std::printf("     memory    %s, %s available\n", human_bytes(static_cast<double>(memory_total())).c_str(),
              human_bytes(static_cast<double>(memory_available())).c_str());
  std::printf("     profiles  %s\n", list(engine_profiles()).c_str());
}

}  // namespace agent
