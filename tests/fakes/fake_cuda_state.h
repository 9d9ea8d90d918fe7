// What the driver of the tests knows: cards, contexts, streams; fake_cuda_peers.cpp has the part that the stand-ins
// for libraries ask for.
#pragma once

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "fake_cuda.h"
#include "fake_cuda_image.h"
#include "fake_cuda_peers.h"
#include "fake_device_memory.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

// An entry point that nobody may call: its meaning is another one in some drivers.
#define TRAP(name)                                                                  \
  EXPORTED void name() {                                                            \
    std::fputs("fake_cuda: " #name " is of the oldest binary interface\n", stderr); \
    std::abort();                                                                   \
  }

namespace fakes {

struct Card {
  std::string bus_id, name;
  int major = 0, minor = 0;
  size_t bytes = 0;
};

struct Module {
  std::string image;
};

struct Function {
  std::string name;
  fakes::KernelLimits limits;
  int dynamic_shared = 48 << 10;
};

struct Context {
  int ordinal = 0;
  DeviceMemory memory;
  bool hangs = false;
  int waiting = 0;  // launches, copies and transfers in its streams that never end
};

// What is queued when it is launched.
using Graph = std::vector<std::function<void()>>;

struct Stream {
  Context* context = nullptr;
  int waiting = 0;                                  // likewise, in this one
  std::vector<std::shared_ptr<Transfers>> pending;  // which run when somebody asks for an event behind them
  std::optional<Graph> captured;                    // instead of being queued
  bool capture_is_valid = false;

  // Whether all that is in it has ended, or ends now.
  bool finish();
};

struct Event {
  bool passed = true;
  Stream* stream = nullptr;  // where it was recorded
};

// FAKE_CUDA_STUCK; fake_cuda_stuck.cpp.
struct Stuck {
  void read(const std::string& told);
  bool meets(const char* called, int on);

  std::string call;
  int ordinal = -1;
  std::atomic<int> after = 0;
};
void be_stuck();

struct State {
  bool started = false;
  std::vector<Card> cards;
  std::string fail_call;
  int fail_ordinal = -1, fail_result = 0;
  std::atomic<int> fail_after = 0, fail_times = 0;  // calls that go well yet, and then fail
  std::string hang_call;
  int hang_ordinal = -1, hang_after = 0;
  Stuck stuck;
  std::vector<std::unique_ptr<Context>> contexts;
  std::vector<std::unique_ptr<Function>> functions;
  // By what callers hold. Nobody gives back what belongs to a card that hangs.
  std::map<void*, std::unique_ptr<Module>> modules;
  std::map<void*, std::unique_ptr<Stream>> streams;
  std::map<void*, std::unique_ptr<Event>> events;
  std::map<void*, std::unique_ptr<char[]>> pinned;
  std::map<void*, std::unique_ptr<Graph>> graphs;
  FakeCuda seen;
};

std::mutex& shared();  // over what threads with different cards share
State& state();
Context*& current_context();  // of this thread

// What a call in the thread's context begins with, and one that no thread may make while it captures a stream: the
// result that it is to return.
int begin_context(const char* call);
int begin_uncaptured(const char* call);

bool is_current(void* stream);

// Whether what a call queues now ends: not on a card that hangs (FAKE_CUDA_HANG).
bool ends(const char* call, void* stream);

// Runs it at once, with the card's memory open; later where the stream is captured; never where the card hangs.
void queue_work(void* stream, const char* call, std::function<void()> work);

}  // namespace fakes
