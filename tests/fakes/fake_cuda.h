// A CUDA driver without cards, as a shared library for tests: launches are noted, and run as the test says; device
// memory is fake_device_memory.h, and open while a launch or copy of its card runs. It is strict where the real one
// would fail or go astray: no context, a wrong pointer, code for another card.
//
//   FAKE_CUDA_CARDS    cards by ordinal, "BUS_ID,CAPABILITY,BYTES,NAME;...", none where it is empty
//   FAKE_CUDA_VERSION  what cuDriverGetVersion says; default 12040
//   FAKE_CUDA_FAIL     "SYMBOL,ORDINAL,RESULT": that call fails for that card; ORDINAL -1: for every card.
//                      "SYMBOL,ORDINAL,RESULT,AFTER": once so many calls went well; "…,AFTER,TIMES": so often
//                      SYMBOL "*": every call, as of a card that has failed
//   FAKE_CUDA_HANG     "SYMBOL,ORDINAL,AFTER": once so many of these launches or copies went well, that card hangs.
//                      What is queued from then on never ends, and a call that would wait for it ends the program
//   FAKE_CUDA_STUCK    "SYMBOL,ORDINAL,AFTER": once so many of these calls returned, they return no more, unless
//                      FakeCuda::stuck does; ORDINAL -1: for every card. The library's own end then waits for ever
//
// They are read by cuInit and cuDriverGetVersion. An image with ".entry *(" has a kernel of any name. Built with
// FAKE_CUDA_10 it says 10.2 and lacks what came with 11.0. The names of the oldest binary interface, which mean
// something else, end the program.
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
  std::vector<FakeLaunch> launches;            // of all cards
  std::function<void(const FakeLaunch&)> run;  // of each launch; may be empty
  std::function<void()> stuck;                 // what a call does that does not return; empty: it never does
  std::vector<std::string> modules;            // what was loaded, in order: "sm_86", "ptx"
  size_t bytes_in = 0, bytes_out = 0;          // copied from the host, and to it
  unsigned context_flags = 0;                  // of the newest context
  int replays = 0;                             // of graphs; their launches are among the others
  int contexts = 0, streams = 0, events = 0, allocations = 0, pinned = 0, loaded = 0, graphs = 0;  // alive now
};

// Exported by the library as fake_cuda.
using FakeCudaFunction = FakeCuda& (*)();

}  // namespace fakes
