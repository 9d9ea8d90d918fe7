#include "devices_command.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "system_info.h"

namespace agent {

void devices_command(bool json) {
  nlohmann::ordered_json cpu{{"device", "cpu"},
                             {"name", cpu_name()},
                             {"cores", usable_cores()},
                             {"simd", simd_paths()},
                             {"memory_bytes", memory_total()},
                             {"memory_available_bytes", memory_available()},
                             {"profiles", {"exact-fp32/1"}}};
  if (json) {
    std::printf("%s\n", nlohmann::ordered_json{{"devices", {cpu}}}.dump().c_str());
    return;
  }
  std::string simd;
  for (const std::string& path : simd_paths()) simd += (simd.empty() ? "" : ", ") + path;
  std::printf("cpu  %s\n", cpu_name().c_str());
  std::printf("     cores     %zu\n", usable_cores());
  std::printf("     SIMD      %s\n", simd.c_str());
  std::printf("     memory    %s, %s available\n", human_bytes(static_cast<double>(memory_total())).c_str(),
              human_bytes(static_cast<double>(memory_available())).c_str());
  std::printf("     profiles  exact-fp32/1\n");
}

}  // namespace agent
