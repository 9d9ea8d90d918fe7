// A CUDA driver without cards, as a shared library for tests: device memory is the host's, launches are noted, and run
// as the test says. It is strict where the real one would fail or go astray: no context, a wrong pointer, code for
// another card.
//
//   FAKE_CUDA_CARDS    cards by ordinal, "BUS_ID,CAPABILITY,BYTES,NAME;...", none where it is empty
//   FAKE_CUDA_VERSION  what cuDriverGetVersion says; default 12040
//   FAKE_CUDA_FAIL     "SYMBOL,ORDINAL,RESULT": that call fails for that card; ORDINAL -1: always
//
// They are read by cuInit and cuDriverGetVersion. Built with FAKE_CUDA_10 it says 10.2 and lacks what came with 11.0.
// The names of the oldest binary interface, which mean something else, end the program.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <vector>

namespace fakes {

struct FakeLaunch {
  std::string kernel;
  int ordinal;
  std::array<unsigned, 3> grid, block;
  unsigned shared_bytes;
  std::string args;
};

struct FakeCuda {
  std::vector<FakeLaunch> launches;
  std::function<void(const FakeLaunch&)> run;                              // of each launch; may be empty
  std::vector<std::string> modules;                                        // what was loaded, in order: "sm_86", "ptx"
  unsigned context_flags = 0;                                              // of the newest context
  int contexts = 0, streams = 0, allocations = 0, pinned = 0, loaded = 0;  // alive now
};

// Exported by the library as fake_cuda.
using FakeCudaFunction = FakeCuda& (*)();

}  // namespace fakes
