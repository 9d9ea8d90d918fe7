// What the sensors of NVIDIA's cards say: by NVML, the library behind nvidia-smi, which is opened at run time where it
// is present.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "kernels/cuda_cards.h"

namespace kernels {

// What keeps a card's clocks down.
struct Slowdown {
  bool heat = false;         // of the chip or of its memory
  bool power_brake = false;  // the power supply asks for it
  bool hardware = false;     // the card protects itself, and says of none of these: as a rule, it draws too much power
  bool power_limit = false;  // somebody has set it; nothing is wrong
};

// What a card does not have or not tell is missing: one without a fan has no fan's speed.
struct CardHealth {
  std::optional<unsigned> temperature_celsius;  // of the chip
  std::optional<unsigned> fan_percent;          // that the fan is told, of its highest speed; may exceed 100
  std::optional<double> power_watts, power_limit_watts;
  std::optional<unsigned> clock_mhz, memory_clock_mhz;  // of what computes, and of the card's memory
  std::optional<Slowdown> slowdown;
  std::string problem;  // the first call that has failed for another reason: bus id, call, what NVML says; else empty
};

// The open library. One thread at a time.
struct CardSensors {
  std::string version;  // "12.535.104.05"
  // Of a card of this bus id ("0000:01:00.0"). It throws nothing but std::bad_alloc. A card for which a call has not
  // returned in time is not asked again.
  std::function<CardHealth(const std::string& bus_id)> read;
};

// Throws CudaError where NVML is missing, does not start, or takes longer than `limit` for a call. It stays open until
// the program ends.
CardSensors open_card_sensors(std::chrono::milliseconds limit = cuda_timeout);

}  // namespace kernels
