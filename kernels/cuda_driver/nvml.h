// NVIDIA's library for managing cards, opened at run time where it is present. Signatures and numbers as in nvml.h of
// CUDA 12.9; drivers from 450 on have all of it.
#pragma once

#include <string>

#include "cuda_driver/driver.h"

namespace kernels::cuda {

namespace nvml {

using Card = struct DeviceOfNvml*;

constexpr Result not_supported = 3;                  // by this card
constexpr int chip = 0;                              // a sensor of temperature
constexpr int clock_of_cores = 1, memory_clock = 2;  // clocks

// Bits of what keeps clocks down. hardware_slowdown comes with one of the two behind software_heat, or alone.
constexpr unsigned long long software_power_limit = 0x4, hardware_slowdown = 0x8, software_heat = 0x20,
                             hardware_heat = 0x40, hardware_power_brake = 0x80;

}  // namespace nvml

// The open library, started. It stays so until the program ends: its own end might wait for a card that hangs. Several
// threads may call it.
class Nvml {
 private:
  static constexpr char owner[] = "NVML";
  void* library_;
  const char* (*const error_string_)(Result);

 public:
  // Throws CudaError: what is missing, or why it does not start.
  explicit Nvml(const char* library = "libnvidia-ml.so.1");

  CudaError error(const std::string& where, const char* call, Result result) const;

  const Call<> nvmlInit_v2{library_, "nvmlInit_v2", owner};
  const Call<char*, unsigned> nvmlSystemGetNVMLVersion{library_, "nvmlSystemGetNVMLVersion", owner};
  const Call<const char*, nvml::Card*> nvmlDeviceGetHandleByPciBusId{library_, "nvmlDeviceGetHandleByPciBusId_v2",
                                                                     owner};
  const Call<nvml::Card, int, unsigned*> nvmlDeviceGetTemperature{library_, "nvmlDeviceGetTemperature", owner};
  const Call<nvml::Card, unsigned*> nvmlDeviceGetFanSpeed{library_, "nvmlDeviceGetFanSpeed", owner};
  // mW, mW, MHz
  const Call<nvml::Card, unsigned*> nvmlDeviceGetPowerUsage{library_, "nvmlDeviceGetPowerUsage", owner};
  const Call<nvml::Card, unsigned*> nvmlDeviceGetEnforcedPowerLimit{library_, "nvmlDeviceGetEnforcedPowerLimit", owner};
  const Call<nvml::Card, int, unsigned*> nvmlDeviceGetClockInfo{library_, "nvmlDeviceGetClockInfo", owner};
  const Call<nvml::Card, unsigned long long*> nvmlDeviceGetCurrentClocksThrottleReasons{
      library_, "nvmlDeviceGetCurrentClocksThrottleReasons", owner};

  const std::string version = start();  // "12.535.104.05"

 private:
  std::string start() const;
};

}  // namespace kernels::cuda
