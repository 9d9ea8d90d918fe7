#include "cuda_driver/nvml.h"

#include <map>

#include "kernels/card_sensors.h"

namespace kernels {
namespace cuda {
namespace {

void* open_nvml(const char* name) {
  std::string why;
  if (void* library = open_library(name, why)) return library;
  throw CudaError("no NVML (" + why + ")");
}

Slowdown slowdown_of(unsigned long long reasons) {
  Slowdown by;
  by.heat = (reasons & (nvml::software_heat | nvml::hardware_heat)) != 0;
  by.power_brake = (reasons & nvml::hardware_power_brake) != 0;
  by.hardware = (reasons & nvml::hardware_slowdown) != 0 && !by.heat && !by.power_brake;
  by.power_limit = (reasons & nvml::software_power_limit) != 0;
  return by;
}

CardHealth health_of(const Nvml& library, const std::string& bus_id) {
  CardHealth health;
  // What a call leaves in its last argument, whose type is that of `value`.
  const auto ask = [&](const auto& call, auto value, auto... arguments) -> std::optional<decltype(value)> {
    const Result failed = call(arguments..., &value);
    if (failed == result::success) return value;
    if (failed != nvml::not_supported && health.problem.empty()) {
      health.problem = library.error(bus_id, call.name, failed).what();
    }
    return std::nullopt;
  };
  const auto watts = [](std::optional<unsigned> milliwatts) {
    return milliwatts ? std::optional(*milliwatts / 1e3) : std::nullopt;
  };
  const auto card = ask(library.nvmlDeviceGetHandleByPciBusId, nvml::Card{}, bus_id.c_str());
  if (!card) return health;
  health.temperature_celsius = ask(library.nvmlDeviceGetTemperature, 0u, *card, nvml::chip);
  health.fan_percent = ask(library.nvmlDeviceGetFanSpeed, 0u, *card);
  health.power_watts = watts(ask(library.nvmlDeviceGetPowerUsage, 0u, *card));
  health.power_limit_watts = watts(ask(library.nvmlDeviceGetEnforcedPowerLimit, 0u, *card));
  health.clock_mhz = ask(library.nvmlDeviceGetClockInfo, 0u, *card, nvml::clock_of_cores);
  health.memory_clock_mhz = ask(library.nvmlDeviceGetClockInfo, 0u, *card, nvml::memory_clock);
  const auto reasons = ask(library.nvmlDeviceGetCurrentClocksThrottleReasons, 0ull, *card);
  if (reasons) health.slowdown = slowdown_of(*reasons);
  return health;
}

// A card's health, read by a thread of its own.
class Reader {
 public:
  Reader(Nvml nvml, std::chrono::milliseconds limit) : nvml_(std::move(nvml)), limit_(limit) {}

  CardHealth operator()(const std::string& bus_id) {
    CardHealth health;
    if (const auto stuck = stuck_.find(bus_id); stuck != stuck_.end()) {
      health.problem = stuck->second;
      return health;
    }
    try {
      return in_time(bus_id, limit_, [nvml = nvml_, bus_id] { return health_of(nvml, bus_id); });
    } catch (const CudaError& error) {
      stuck_[bus_id] = health.problem = error.what();
    } catch (const std::system_error& error) {  // no thread now
      health.problem = bus_id + ": " + error.what();
    }
    return health;
  }

 private:
  Nvml nvml_;
  std::chrono::milliseconds limit_;
  std::map<std::string, std::string> stuck_;  // by bus id: the call that has not returned
};

}  // namespace

Nvml::Nvml(const char* library)
    : library_(open_nvml(library)),
      error_string_(reinterpret_cast<const char* (*)(Result)>(symbol_of(library_, "nvmlErrorString", owner))) {}

CudaError Nvml::error(const std::string& where, const char* call, Result result) const {
  const char* const description = error_string_(result);
  return CudaError(where + ": " + call + ": " + (description == nullptr ? "no description" : description) + " (" +
                   std::to_string(result) + ")");
}

std::string Nvml::start() const {
  if (const Result failed = nvmlInit_v2()) throw error(owner, nvmlInit_v2.name, failed);
  char text[80] = {};
  const Result failed = nvmlSystemGetNVMLVersion(text, static_cast<unsigned>(sizeof text));
  if (failed != result::success) throw error(owner, nvmlSystemGetNVMLVersion.name, failed);
  return text;
}

}  // namespace cuda

CardSensors open_card_sensors(std::chrono::milliseconds limit) {
  const cuda::Nvml nvml = cuda::in_time("NVML", limit, [] { return cuda::Nvml(); });
  return {nvml.version, cuda::Reader(nvml, limit)};
}

}  // namespace kernels
