#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "fake_cuda_state.h"

std::mutex& fakes::shared() {
  static std::mutex only;
  return only;
}

// It never ends: threads that hang are left behind in it.
fakes::State& fakes::state() {
  static State& only = *new State;
  return only;
}

fakes::Context*& fakes::current_context() {
  thread_local Context* current = nullptr;
  return current;
}

namespace {

using fakes::begin_context, fakes::begin_uncaptured, fakes::is_current, fakes::queue_work;
using fakes::Card, fakes::Context, fakes::Event, fakes::Function, fakes::Module, fakes::State, fakes::Stream;
using fakes::current_context, fakes::shared, fakes::state;

enum Result : int {
  success = 0,
  invalid_value = 1,
  out_of_memory = 2,
  not_initialised = 3,
  no_device = 100,
  invalid_device = 101,
  invalid_context = 201,
  no_binary = 209,
  invalid_image = 200,
  invalid_handle = 400,
  not_found = 500,
  not_ready = 600,
};

constexpr int queue_length = 1024;  // of the real driver, about

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void read_environment() {
  State& s = state();
  s.cards.clear();
  s.contexts.clear();
  std::istringstream cards(environment("FAKE_CUDA_CARDS"));
  for (std::string entry; std::getline(cards, entry, ';');) {
    std::istringstream fields(entry);
    std::string capability, bytes;
    Card card;
    std::getline(fields, card.bus_id, ',');
    std::getline(fields, capability, ',');
    std::getline(fields, bytes, ',');
    std::getline(fields, card.name);
    if (std::sscanf(capability.c_str(), "%d.%d", &card.major, &card.minor) != 2) std::abort();
    card.bytes = std::stoull(bytes);
    s.cards.push_back(card);
    s.contexts.push_back(
        std::make_unique<Context>(Context{static_cast<int>(s.contexts.size()), fakes::DeviceMemory(card.bytes)}));
  }
  std::string ordinal, result, after, times;
  s.hang_call.clear();
  std::istringstream hang(environment("FAKE_CUDA_HANG"));
  if (std::getline(hang, s.hang_call, ',') && std::getline(hang, ordinal, ',') && std::getline(hang, after)) {
    s.hang_ordinal = std::stoi(ordinal);
    s.hang_after = std::stoi(after);
  }
  s.stuck.read(environment("FAKE_CUDA_STUCK"));
  s.fail_call.clear();
  std::istringstream fail(environment("FAKE_CUDA_FAIL"));
  if (std::getline(fail, s.fail_call, ',') && std::getline(fail, ordinal, ',') && std::getline(fail, result, ',')) {
    s.fail_ordinal = std::stoi(ordinal);
    s.fail_result = std::stoi(result);
    s.fail_after = std::getline(fail, after, ',') ? std::stoi(after) : 0;
    s.fail_times = std::getline(fail, times) ? std::stoi(times) : INT_MAX;
  }
}

// What a call begins with: it may be told not to return, or to fail.
int begin(const char* call, int ordinal) {
  State& s = state();
  if (!s.started) return not_initialised;
  if (s.stuck.meets(call, ordinal)) fakes::be_stuck();
  const bool meant = (s.fail_call == call || s.fail_call == "*") && (s.fail_ordinal == -1 || s.fail_ordinal == ordinal);
  return meant && s.fail_after-- <= 0 && s.fail_times-- > 0 ? s.fail_result : success;
}

int begin_device(const char* call, int ordinal) {
  if (state().started && (ordinal < 0 || ordinal >= static_cast<int>(state().cards.size()))) return invalid_device;
  return begin(call, ordinal);
}

// Where a call would wait for a card that hangs.
void waits(const Context* context, const char* call) {
  if (context == nullptr || context->waiting == 0) return;
  std::fprintf(stderr, "fake_cuda: %s never returns\n", call);
  std::abort();
}

char* pointer(unsigned long long device) { return reinterpret_cast<char*>(device); }

int load(const char* bytes, void** module) {
  const std::lock_guard lock(shared());
  auto loaded = std::make_unique<Module>(Module{fakes::image_bytes(bytes)});
  const Card& card = state().cards[static_cast<size_t>(current_context()->ordinal)];
  if (fakes::is_cubin(loaded->image)) {
    const unsigned target = fakes::architecture(loaded->image);
    if (target / 10 != static_cast<unsigned>(card.major) || target % 10 > static_cast<unsigned>(card.minor))
      return no_binary;
    state().seen.modules.push_back("sm_" + std::to_string(target));
  } else {
    if (loaded->image.find(".version") == std::string::npos) return invalid_image;
    state().seen.modules.push_back("ptx");
  }
  ++state().seen.loaded;
  *module = loaded.get();
  state().modules[*module] = std::move(loaded);
  return success;
}

}  // namespace

int fakes::begin_context(const char* call) {
  return current_context() == nullptr ? invalid_context : begin(call, current_context()->ordinal);
}

bool fakes::is_current(void* stream) {
  return stream != nullptr && static_cast<Stream*>(stream)->context == current_context();
}

bool fakes::ends(const char* call, void* stream) {
  State& s = state();
  auto& queue = *static_cast<Stream*>(stream);
  Context& context = *queue.context;
  const bool meant = s.hang_call == call && s.hang_ordinal == context.ordinal;
  context.hangs = context.hangs || (meant && s.hang_after-- <= 0);
  if (!context.hangs && queue.waiting == 0) return true;
  if (queue.waiting == queue_length) waits(&context, call);
  ++queue.waiting;
  ++context.waiting;
  return false;
}

EXPORTED fakes::FakeCuda& fake_cuda() { return state().seen; }

EXPORTED int cuDriverGetVersion(int* version) {
#ifdef FAKE_CUDA_10
  *version = 10020;
#else
  const std::string given = environment("FAKE_CUDA_VERSION");
  *version = given.empty() ? 12040 : std::stoi(given);
#endif
  return success;
}

EXPORTED int cuGetErrorName(int result, const char** name) {
  *name = result == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : result == 719 ? "CUDA_ERROR_LAUNCH_FAILED" : nullptr;
  return *name == nullptr ? invalid_value : success;
}

EXPORTED int cuGetErrorString(int result, const char** text) {
  *text = result == 2 ? "out of memory" : result == 719 ? "unspecified launch failure" : nullptr;
  return *text == nullptr ? invalid_value : success;
}

EXPORTED int cuInit(unsigned) {
  read_environment();
  state().started = true;
  if (const int failed = begin("cuInit", -1)) return failed;
  return state().cards.empty() ? no_device : success;
}

EXPORTED int cuDeviceGetCount(int* count) {
  *count = static_cast<int>(state().cards.size());
  return begin("cuDeviceGetCount", -1);
}

EXPORTED int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return begin_device("cuDeviceGet", ordinal);
}

EXPORTED int cuDeviceGetName(char* text, int length, int device) {
  if (const int failed = begin_device("cuDeviceGetName", device)) return failed;
  std::snprintf(text, static_cast<size_t>(length), "%s", state().cards[static_cast<size_t>(device)].name.c_str());
  return success;
}

EXPORTED int cuDeviceGetPCIBusId(char* text, int length, int device) {
  if (const int failed = begin_device("cuDeviceGetPCIBusId", device)) return failed;
  std::snprintf(text, static_cast<size_t>(length), "%s", state().cards[static_cast<size_t>(device)].bus_id.c_str());
  return success;
}

EXPORTED int cuDeviceTotalMem_v2(size_t* bytes, int device) {
  if (const int failed = begin_device("cuDeviceTotalMem_v2", device)) return failed;
  *bytes = state().cards[static_cast<size_t>(device)].bytes;
  return success;
}

EXPORTED int cuDeviceGetAttribute(int* value, int attribute, int device) {
  if (const int failed = begin_device("cuDeviceGetAttribute", device)) return failed;
  const Card& card = state().cards[static_cast<size_t>(device)];
  switch (attribute) {
    case 13:
      *value = 2;  // kHz: slower than any test
      return success;
    case 16:
      *value = 16;  // multiprocessors, so that it wants several blocks of tokens at once
      return success;
    case 75:
      *value = card.major;
      return success;
    case 76:
      *value = card.minor;
      return success;
    default:
      return invalid_value;
  }
  return success;
}

#ifndef FAKE_CUDA_10  // these are new in 11.0

EXPORTED int cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) {
  const std::lock_guard lock(shared());
  state().seen.context_flags = flags;
  return begin_device("cuDevicePrimaryCtxSetFlags_v2", device);
}

EXPORTED int cuDevicePrimaryCtxRelease_v2(int device) {
  waits(state().contexts.at(static_cast<size_t>(device)).get(), "cuDevicePrimaryCtxRelease");
  const std::lock_guard lock(shared());
  --state().seen.contexts;
  return begin_device("cuDevicePrimaryCtxRelease_v2", device);
}

#endif

EXPORTED int cuDevicePrimaryCtxRetain(void** context, int device) {
  if (const int failed = begin_device("cuDevicePrimaryCtxRetain", device)) return failed;
  const std::lock_guard lock(shared());
  *context = state().contexts[static_cast<size_t>(device)].get();
  ++state().seen.contexts;
  return success;
}

EXPORTED int cuCtxSetCurrent(void* context) {
  current_context() = static_cast<Context*>(context);
  return begin("cuCtxSetCurrent", current_context() == nullptr ? -1 : current_context()->ordinal);
}

EXPORTED int cuStreamCreate(void** stream, unsigned flags) {
  if (const int failed = begin_context("cuStreamCreate")) return failed;
  if (flags > 1) return invalid_value;
  auto made = std::make_unique<Stream>();
  made->context = current_context();
  *stream = made.get();
  const std::lock_guard lock(shared());
  state().streams[*stream] = std::move(made);
  ++state().seen.streams;
  return success;
}

EXPORTED int cuStreamDestroy_v2(void* stream) {
  waits(current_context(), "cuStreamDestroy");
  const std::lock_guard lock(shared());
  state().streams.erase(stream);
  --state().seen.streams;
  return begin_uncaptured("cuStreamDestroy_v2");
}

EXPORTED int cuEventCreate(void** event, unsigned flags) {
  if (const int failed = begin_context("cuEventCreate")) return failed;
  if (flags != 2) return invalid_value;
  auto made = std::make_unique<Event>();
  *event = made.get();
  const std::lock_guard lock(shared());
  state().events[*event] = std::move(made);
  ++state().seen.events;
  return success;
}

EXPORTED int cuEventDestroy_v2(void* event) {
  const std::lock_guard lock(shared());
  state().events.erase(event);
  --state().seen.events;
  return begin_context("cuEventDestroy_v2");
}

EXPORTED int cuEventRecord(void* event, void* stream) {
  if (const int failed = begin_uncaptured("cuEventRecord")) return failed;
  if (!is_current(stream)) return invalid_handle;
  auto& mark = *static_cast<Event*>(event);
  mark.stream = static_cast<Stream*>(stream);
  mark.passed = !current_context()->hangs && mark.stream->waiting == 0 && mark.stream->pending.empty();
  return success;
}

EXPORTED int cuEventQuery(void* event) {
  if (const int failed = begin_uncaptured("cuEventQuery")) return failed;
  auto& mark = *static_cast<Event*>(event);
  mark.passed = mark.passed || mark.stream->finish();
  return mark.passed ? success : not_ready;
}

EXPORTED int cuMemAlloc_v2(unsigned long long* device, size_t bytes) {
  if (const int failed = begin_uncaptured("cuMemAlloc_v2")) return failed;
  if (bytes == 0) return invalid_value;
  char* memory = current_context()->memory.allocate(bytes);
  if (memory == nullptr) return out_of_memory;
  *device = reinterpret_cast<unsigned long long>(memory);
  const std::lock_guard lock(shared());
  ++state().seen.allocations;
  return success;
}

EXPORTED int cuMemFree_v2(unsigned long long device) {
  if (const int failed = begin_uncaptured("cuMemFree_v2")) return failed;
  waits(current_context(), "cuMemFree");
  if (!current_context()->memory.free(pointer(device))) return invalid_value;
  const std::lock_guard lock(shared());
  --state().seen.allocations;
  return success;
}

EXPORTED int cuMemGetInfo_v2(size_t* free, size_t* total) {
  if (const int failed = begin_uncaptured("cuMemGetInfo_v2")) return failed;
  *free = current_context()->memory.free_bytes();
  *total = current_context()->memory.bytes();
  return success;
}

EXPORTED int cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
  if (const int failed = begin_uncaptured("cuMemHostAlloc")) return failed;
  std::unique_ptr<char[]> made(new char[bytes]);
  *memory = made.get();
  const std::lock_guard lock(shared());
  state().pinned[*memory] = std::move(made);
  ++state().seen.pinned;
  return success;
}

EXPORTED int cuMemFreeHost(void* memory) {
  waits(current_context(), "cuMemFreeHost");
  const std::lock_guard lock(shared());
  state().pinned.erase(memory);
  --state().seen.pinned;
  return begin_context("cuMemFreeHost");
}

EXPORTED int cuMemcpyHtoDAsync_v2(unsigned long long device, const void* host, size_t bytes, void* stream) {
  if (const int failed = begin_context("cuMemcpyHtoDAsync_v2")) return failed;
  if (!is_current(stream) || !current_context()->memory.holds(pointer(device), bytes)) return invalid_value;
  queue_work(stream, "cuMemcpyHtoDAsync_v2", [=] {
    std::memcpy(pointer(device), host, bytes);
    const std::lock_guard lock(shared());
    state().seen.bytes_in += bytes;
  });
  return success;
}

EXPORTED int cuMemcpyDtoHAsync_v2(void* host, unsigned long long device, size_t bytes, void* stream) {
  if (const int failed = begin_context("cuMemcpyDtoHAsync_v2")) return failed;
  if (!is_current(stream) || !current_context()->memory.holds(pointer(device), bytes)) return invalid_value;
  queue_work(stream, "cuMemcpyDtoHAsync_v2", [=] {
    std::memcpy(host, pointer(device), bytes);
    const std::lock_guard lock(shared());
    state().seen.bytes_out += bytes;
  });
  return success;
}

EXPORTED int cuMemcpyDtoDAsync_v2(unsigned long long to, unsigned long long from, size_t bytes, void* stream) {
  if (const int failed = begin_context("cuMemcpyDtoDAsync_v2")) return failed;
  fakes::DeviceMemory& memory = current_context()->memory;
  if (!is_current(stream) || !memory.holds(pointer(to), bytes) || !memory.holds(pointer(from), bytes))
    return invalid_value;
  queue_work(stream, "cuMemcpyDtoDAsync_v2", [=] { std::memcpy(pointer(to), pointer(from), bytes); });
  return success;
}

EXPORTED int cuMemsetD8Async(unsigned long long device, unsigned char value, size_t bytes, void* stream) {
  if (const int failed = begin_context("cuMemsetD8Async")) return failed;
  if (!is_current(stream) || !current_context()->memory.holds(pointer(device), bytes)) return invalid_value;
  queue_work(stream, "cuMemsetD8Async", [=] { std::memset(pointer(device), value, bytes); });
  return success;
}

EXPORTED int cuModuleLoadData(void** module, const void* image) {
  if (const int failed = begin_context("cuModuleLoadData")) return failed;
  return load(static_cast<const char*>(image), module);
}

EXPORTED int cuModuleUnload(void* module) {
  waits(current_context(), "cuModuleUnload");
  const std::lock_guard lock(shared());
  state().modules.erase(module);
  --state().seen.loaded;
  return begin_context("cuModuleUnload");
}

EXPORTED int cuModuleGetFunction(void** function, void* module, const char* name) {
  if (const int failed = begin_context("cuModuleGetFunction")) return failed;
  const std::string& image = static_cast<Module*>(module)->image;
  if (!fakes::has_kernel(image, name)) return not_found;
  const std::lock_guard lock(shared());
  state().functions.push_back(std::make_unique<Function>(Function{name, fakes::limits_of(image, name)}));
  *function = state().functions.back().get();
  return success;
}

EXPORTED int cuFuncSetAttribute(void* function, int attribute, int value) {
  if (const int failed = begin_context("cuFuncSetAttribute")) return failed;
  if (attribute != 8 || value > 227 << 10) return invalid_value;
  static_cast<Function*>(function)->dynamic_shared = value;
  return success;
}

EXPORTED int cuLaunchKernel(void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                            unsigned block_y, unsigned block_z, unsigned shared_bytes, void* stream, void** parameters,
                            void** extra) {
  if (const int failed = begin_context("cuLaunchKernel")) return failed;
  const auto& kernel = *static_cast<Function*>(function);
  const unsigned threads = block_x * block_y * block_z;
  if (threads == 0 || threads > kernel.limits.threads || grid_x == 0 || grid_y == 0 || grid_z == 0)
    return invalid_value;
  if (shared_bytes > static_cast<unsigned>(kernel.dynamic_shared) || !is_current(stream)) return invalid_value;
  void* const buffer = reinterpret_cast<void*>(1);
  void* const size = reinterpret_cast<void*>(2);
  if (parameters != nullptr || extra[0] != buffer || extra[2] != size || extra[4] != nullptr) return invalid_value;
  const size_t bytes = *static_cast<size_t*>(extra[3]);
  if (kernel.limits.argument_bytes != SIZE_MAX && bytes != kernel.limits.argument_bytes) return invalid_value;
  const fakes::FakeLaunch launch{kernel.name,
                                 current_context()->ordinal,
                                 {grid_x, grid_y, grid_z},
                                 {block_x, block_y, block_z},
                                 shared_bytes,
                                 std::string(static_cast<char*>(extra[1]), bytes)};
  queue_work(stream, "cuLaunchKernel", [launch] {
    {
      const std::lock_guard lock(shared());
      state().seen.launches.push_back(launch);
    }
    if (state().seen.run) state().seen.run(launch);
  });
  return success;
}

TRAP(cuDeviceTotalMem)
TRAP(cuDevicePrimaryCtxRelease)
TRAP(cuDevicePrimaryCtxSetFlags)
TRAP(cuStreamDestroy)
TRAP(cuEventDestroy)
TRAP(cuMemAlloc)
TRAP(cuMemGetInfo)
TRAP(cuMemFree)
TRAP(cuMemcpyHtoDAsync)
TRAP(cuMemcpyDtoHAsync)
TRAP(cuMemcpyDtoDAsync)
