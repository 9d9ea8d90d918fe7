#include "fake_nvml.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

enum Result : int { success = 0, uninitialised = 1, invalid_argument = 2, not_supported = 3, not_found = 6 };

struct Card {
  std::string bus_id;
  std::vector<std::string> values;  // as told
  std::deque<std::string> reasons;
};

struct State {
  bool started = false;
  std::vector<std::unique_ptr<Card>> cards;
  std::string fail_call, hang_call, hang_card;
  int fail_result = 0;
  fakes::FakeNvml seen;
};

// It never ends: threads that hang are left behind in it.
State& state() {
  static State& only = *new State;
  return only;
}

std::atomic<bool> for_ever = false;

void sleep_for_ever() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

// As the real library's end may, for a lock that the call has.
__attribute__((destructor)) void end_of_library() {
  if (for_ever) sleep_for_ever();
}

std::vector<std::string> fields_of(const std::string& text, char between) {
  std::istringstream in(text);
  std::vector<std::string> fields;
  for (std::string field; std::getline(in, field, between);) fields.push_back(field);
  return fields;
}

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void read_environment() {
  State& s = state();
  s.cards.clear();
  for (const std::string& told : fields_of(environment("FAKE_NVML_CARDS"), ';')) {
    const std::vector<std::string> fields = fields_of(told, ',');
    if (fields.size() != 8) std::abort();
    auto card = std::make_unique<Card>(Card{fields[0], {fields.begin() + 1, fields.end() - 1}, {}});
    for (const std::string& reasons : fields_of(fields[7], '.')) card->reasons.push_back(reasons);
    s.cards.push_back(std::move(card));
  }
  const std::vector<std::string> fail = fields_of(environment("FAKE_NVML_FAIL"), ',');
  s.fail_call = fail.empty() ? "" : fail.at(0);
  s.fail_result = fail.empty() ? 0 : std::stoi(fail.at(1));
  const std::vector<std::string> hang = fields_of(environment("FAKE_NVML_HANG"), ',');
  s.hang_call = hang.empty() ? "" : hang[0];
  s.hang_card = hang.size() < 2 ? "" : hang[1];
}

// What a call begins with: it may be told not to return, or to fail.
int begin(const char* call, const std::string& card = "") {
  const State& s = state();
  if (!s.started) return uninitialised;
  if (s.hang_call == call && s.hang_card == card) {
    if (s.seen.stuck) {
      s.seen.stuck();
    } else {
      for_ever = true;
      sleep_for_ever();
    }
  }
  return s.fail_call == call ? s.fail_result : success;
}

Card& card_of(void* handle) {
  for (const auto& card : state().cards) {
    if (card.get() == handle) return *card;
  }
  std::fprintf(stderr, "fake_nvml: a handle that is none\n");
  std::abort();
}

template <class Number>
int tell(const std::string& told, int base, Number* value) {
  if (told == "-") return not_supported;
  if (told[0] == '!') return std::stoi(told.substr(1));
  *value = static_cast<Number>(std::stoull(told, nullptr, base));
  return success;
}

// Value number `index` of a card.
int tell_value(const char* call, void* handle, size_t index, unsigned* value) {
  const Card& card = card_of(handle);
  if (const int failed = begin(call, card.bus_id)) return failed;
  return tell(card.values[index], 10, value);
}

}  // namespace

EXPORTED fakes::FakeNvml& fake_nvml() { return state().seen; }

EXPORTED int nvmlInit_v2() {
  read_environment();
  state().started = true;
  return begin("nvmlInit_v2");
}

EXPORTED const char* nvmlErrorString(int result) {
  return result == 9 ? "Driver Not Loaded" : result == 15 ? "GPU is lost" : result == 999 ? "Unknown Error" : nullptr;
}

EXPORTED int nvmlSystemGetNVMLVersion(char* text, unsigned length) {
  if (const int failed = begin("nvmlSystemGetNVMLVersion")) return failed;
  std::snprintf(text, length, "12.535.104.05");
  return success;
}

EXPORTED int nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id, void** handle) {
  if (const int failed = begin("nvmlDeviceGetHandleByPciBusId_v2", bus_id)) return failed;
  ++state().seen.handles;
  for (const auto& card : state().cards) {
    if (card->bus_id != bus_id) continue;
    *handle = card.get();
    return success;
  }
  return not_found;
}

EXPORTED int nvmlDeviceGetTemperature(void* handle, int sensor, unsigned* celsius) {
  if (sensor != 0) return invalid_argument;
  return tell_value("nvmlDeviceGetTemperature", handle, 0, celsius);
}

#ifndef FAKE_NVML_DAMAGED
EXPORTED int nvmlDeviceGetFanSpeed(void* handle, unsigned* percent) {
  return tell_value("nvmlDeviceGetFanSpeed", handle, 1, percent);
}
#endif

EXPORTED int nvmlDeviceGetPowerUsage(void* handle, unsigned* milliwatts) {
  return tell_value("nvmlDeviceGetPowerUsage", handle, 2, milliwatts);
}

EXPORTED int nvmlDeviceGetEnforcedPowerLimit(void* handle, unsigned* milliwatts) {
  return tell_value("nvmlDeviceGetEnforcedPowerLimit", handle, 3, milliwatts);
}

EXPORTED int nvmlDeviceGetClockInfo(void* handle, int clock, unsigned* megahertz) {
  if (clock != 1 && clock != 2) return invalid_argument;
  return tell_value("nvmlDeviceGetClockInfo", handle, clock == 1 ? 4 : 5, megahertz);
}

EXPORTED int nvmlDeviceGetCurrentClocksThrottleReasons(void* handle, unsigned long long* reasons) {
  Card& card = card_of(handle);
  if (const int failed = begin("nvmlDeviceGetCurrentClocksThrottleReasons", card.bus_id)) return failed;
  const std::string told = card.reasons.front();
  if (card.reasons.size() > 1) card.reasons.pop_front();
  return tell(told, 16, reasons);
}
