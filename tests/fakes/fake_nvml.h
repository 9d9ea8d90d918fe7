// NVML without cards, as a shared library for tests. It ends the program where the real one would go astray: a handle
// that it did not give.
//
//   FAKE_NVML_CARDS  "BUS_ID,CELSIUS,FAN,MILLIWATTS,LIMIT,MHZ,MEMORY_MHZ,REASONS;...": a number each; "-": the card
//   does
//                    not support it; "!15": the call for it gives this result. REASONS (hexadecimal) may be several,
//                    "8.8.0": of one call after the other, the last of all that follow
//   FAKE_NVML_FAIL   "SYMBOL,RESULT": all these calls give that result
//   FAKE_NVML_HANG   "SYMBOL,BUS_ID": these calls do not return, unless FakeNvml::stuck does; BUS_ID is empty for calls
//                    that are of no card. The library's own end then waits for ever
//
// They are read by nvmlInit_v2. Built with FAKE_NVML_DAMAGED it lacks nvmlDeviceGetFanSpeed.
#pragma once

#include <functional>

namespace fakes {

struct FakeNvml {
  std::function<void()> stuck;  // what a call does that does not return; empty: it never does
  int handles = 0;              // that were asked for
};

// Exported by the library as fake_nvml.
using FakeNvmlFunction = FakeNvml& (*)();

}  // namespace fakes
