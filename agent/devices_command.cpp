#include "devices_command.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "card_health.h"
#include "cards.h"
#include "engine.h"
#include "kernels/card_sensors.h"
#include "kernels/cuda_cards.h"
#include "kernels/profile.h"
#include "system_info.h"

namespace agent {
namespace {

// What NVIDIA's driver says, or why it says nothing.
struct Cuda {
  kernels::CudaCards found;
  std::string problem;
};

Cuda ask_cuda() {
  try {
    return {kernels::cuda_cards(), ""};
  } catch (const std::runtime_error& error) {
    return {{}, error.what()};
  }
}

// What the cards' sensors say, or why they say nothing.
struct Sensors {
  kernels::CardSensors found;
  LibraryState library;
};

Sensors ask_sensors() {
  try {
    kernels::CardSensors found = kernels::open_card_sensors();
    return {found, {found.version, ""}};
  } catch (const kernels::CudaError& error) {
    return {{}, {"", std::string(error.what()) + without_sensors}};
  }
}

std::string capability(const kernels::CudaCard& card) {
  return std::to_string(card.major) + "." + std::to_string(card.minor);
}

// A capability of 7.5 does not tell whether there are tensor cores.
bool fast_by_trial(const kernels::CudaCard& card) { return card.fast == "fp16"; }

// Those that it is known to compute.
std::vector<std::string> profiles_of(const kernels::CudaCard& card) {
  std::vector<std::string> names = engine_profiles();
  if (!card.fast.empty() && !fast_by_trial(card)) names.push_back(kernels::name_of(kernels::Profile::fast));
  return names;
}

std::string what_computes(const kernels::CudaCard& card) {
  if (!card.no_code.empty()) return "no: " + card.no_code;
  const bool ptx = card.code.starts_with("compute_");
  return "exact profiles, int8 by " + card.int8 + (card.fast.empty() ? "" : "; fast in " + card.fast) +
         (fast_by_trial(card) ? " if it has tensor cores" : "") + "; through " + card.code +
         (ptx ? ", compiled by the driver" : "");
}

bool any_tensor_cores(const Cuda& cuda) { return std::ranges::any_of(cuda.found.cards, has_tensor_cores); }

nlohmann::ordered_json library_json(const LibraryState& library) {
  if (library.problem.empty()) return {{"version", library.version}};
  return {{"problem", library.problem}};
}

nlohmann::ordered_json card_json(const kernels::CudaCard& card, const std::string& device, const Sensors& sensors) {
  nlohmann::ordered_json entry{{"device", device}, {"bus_id", card.bus_id}};
  if (!card.problem.empty()) {
    entry["problem"] = card.problem;
    return entry;
  }
  entry.update({{"name", card.name},
                {"compute_capability", capability(card)},
                {"memory_bytes", card.memory_bytes},
                {"computes", card.no_code.empty()}});
  if (!card.no_code.empty()) {
    entry["reason"] = card.no_code;
  } else {
    entry.update({{"profiles", profiles_of(card)}, {"code", card.code}, {"int8", card.int8}});
    if (!card.fast.empty()) entry["fast"] = card.fast;
  }
  if (const PcieLanes lanes = pcie_lanes(card.bus_id); lanes.now > 0) {
    entry.update({{"pcie_lanes", lanes.now}, {"pcie_lanes_most", lanes.most}});
  }
  if (sensors.found.read) entry["health"] = health_json(sensors.found.read(card.bus_id));
  return entry;
}

nlohmann::ordered_json cuda_json(const Cuda& cuda) {
  if (!cuda.problem.empty()) return {{"problem", cuda.problem}};
  nlohmann::ordered_json cards = nlohmann::ordered_json::array();
  const Sensors sensors = cuda.found.cards.empty() ? Sensors() : ask_sensors();
  for (const kernels::CudaCard& card : cuda.found.cards) {
    cards.push_back(card_json(card, device_name(cards.size()), sensors));
  }
  nlohmann::ordered_json answer{{"driver", cuda.found.driver}, {"cards", cards}};
  if (!cards.empty()) answer["nvml"] = library_json(sensors.library);
  if (cards.size() > 1) answer["nccl"] = library_json(ask_nccl());
  if (any_tensor_cores(cuda)) answer["cublaslt"] = library_json(ask_cublaslt());
  if (const std::string version = nvidia_driver_version(); !version.empty()) answer["driver_version"] = version;
  return answer;
}

std::string link_text(const std::string& bus_id) {
  const PcieLanes lanes = pcie_lanes(bus_id);
  return lanes.now == 0 ? "-" : std::to_string(lanes.now) + " of " + std::to_string(lanes.most);
}

void print_library(const char* name, const LibraryState& library, const std::string& use) {
  std::printf("%s %s\n", name,
              library.problem.empty() ? (library.version + ": " + use).c_str() : library.problem.c_str());
}

void print_health(const std::vector<kernels::CudaCard>& cards) {
  const Sensors sensors = ask_sensors();
  print_library("nvml", sensors.library, "what the cards' sensors say");
  if (!sensors.found.read) return;
  const auto print = [](const std::string& device, const HealthTexts& texts) {
    const auto known = [](const std::string& text) { return text.empty() ? "-" : text.c_str(); };
    std::printf("     %-7s %-11s %-6s %-14s %-9s %-9s %s\n", device.c_str(), known(texts.temperature), known(texts.fan),
                known(texts.power), known(texts.clock), known(texts.memory_clock), known(texts.slowed_by));
  };
  print("device", {"temperature", "fan", "power", "clock", "memory", "slowed by"});
  for (size_t number = 0; number < cards.size(); ++number) {
    if (!cards[number].problem.empty()) continue;
    const kernels::CardHealth health = sensors.found.read(cards[number].bus_id);
    print(device_name(number), texts_of(health));
    if (!health.problem.empty()) std::printf("     %-7s %s\n", "", health.problem.c_str());
  }
}

void print_cuda(const Cuda& cuda) {
  if (!cuda.problem.empty()) {
    std::printf("cuda %s\n", cuda.problem.c_str());
    return;
  }
  const bool none = cuda.found.cards.empty();
  const std::string version = nvidia_driver_version();
  std::printf("cuda driver %s%sfor CUDA %s%s\n", version.c_str(), version.empty() ? "" : " ", cuda.found.driver.c_str(),
              none ? "; no card" : "");
  constexpr char row[] = "     %-7s %-14s %-36s %-10s %-8s %-10s %s\n";
  if (!none) std::printf(row, "device", "bus id", "name", "capability", "memory", "PCIe lanes", "computes");
  size_t number = 0;
  for (const kernels::CudaCard& card : cuda.found.cards) {
    const std::string device = device_name(number++);
    if (card.problem.empty()) {
      std::printf(row, device.c_str(), card.bus_id.c_str(), card.name.c_str(), capability(card).c_str(),
                  human_bytes(static_cast<double>(card.memory_bytes)).c_str(), link_text(card.bus_id).c_str(),
                  what_computes(card).c_str());
    } else {
      std::printf("     %-7s %s\n", device.c_str(), card.problem.c_str());
    }
  }
  if (!none) print_health(cuda.found.cards);
  if (cuda.found.cards.size() > 1) print_library("nccl", ask_nccl(), "cards pass results to each other");
  if (any_tensor_cores(cuda)) {
    print_library("cublaslt", ask_cublaslt(), "fast goes through it, int8 where a trial at the start is faster");
  }
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
  const Cuda cuda = ask_cuda();
  if (json) {
    const nlohmann::ordered_json answer{{"devices", {cpu}}, {"cuda", cuda_json(cuda)}};
    // What a driver calls its cards need not be UTF-8.
    std::printf("%s\n", answer.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
    return;
  }
  std::printf("cpu  %s\n", cpu_name().c_str());
  std::printf("     cores     %zu\n", usable_cores());
  std::printf("     SIMD      %s\n", comma_list(simd_paths()).c_str());
  std::printf("     memory    %s, %s available\n", human_bytes(static_cast<double>(memory_total())).c_str(),
              human_bytes(static_cast<double>(memory_available())).c_str());
  std::printf("     profiles  %s\n", comma_list(engine_profiles()).c_str());
  print_cuda(cuda);
}

}  // namespace agent
