#include "cuda_driver/device.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <thread>

namespace kernels::cuda {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr size_t piece_bytes = 4 << 20;
// Between two marks. The driver's queue holds about a thousand launches.
constexpr unsigned launches_to_a_mark = 64;

DevicePointer number(const void* device) { return reinterpret_cast<DevicePointer>(device); }

}  // namespace

void sleep_a_part_of(std::chrono::steady_clock::duration waited) {
  using std::chrono::microseconds;
  const auto part = std::chrono::duration_cast<microseconds>(waited / 64);
  std::this_thread::sleep_for(std::clamp(part, microseconds(20), microseconds(5000)));
}

std::string seconds_text(std::chrono::milliseconds time) {
  char text[32];
  std::snprintf(text, sizeof text, "%g s", std::chrono::duration<double>(time).count());
  return text;
}

// The deleters leave results alone: what cannot be given back has failed before, and was reported then.

Device::Device(const Driver& driver, const CudaCard& card, const Code& code, std::chrono::milliseconds timeout)
    : driver_(driver), bus_id_(card.bus_id), ordinal_(card.ordinal), code_(code), timeout_(timeout) {
  start_context();
  stream_ = create_stream();
  newest_mark_ = create_event();
  older_mark_ = create_event();
  for (Pinned& pinned : pinned_) pinned = pin();
  for (const std::span<const std::byte> image : code_.images) load(image);
}

Device::~Device() {
  driver_.cuCtxSetCurrent.function(context_.get());
  if (answers()) return;
  const auto leave = [](auto& handle) { static_cast<void>(handle.release()); };
  for (Handle<Module>& module : modules_) leave(module);
  for (Pinned& pinned : pinned_) {
    leave(pinned.memory);
    leave(pinned.passed);
  }
  leave(newest_mark_);
  leave(older_mark_);
  leave(side_mark_);
  leave(side_stream_);
  leave(stream_);
  leave(context_);
}

void Device::start_context() {
  Ordinal device = 0;
  driver_.run(bus_id_, driver_.cuDeviceGet, &device, ordinal_);
  int multiprocessors = 0;
  driver_.run(bus_id_, driver_.cuDeviceGetAttribute, &multiprocessors, attribute::multiprocessors, device);
  multiprocessors_ = static_cast<uint32_t>(multiprocessors);
  driver_.run(bus_id_, driver_.cuDevicePrimaryCtxSetFlags, device, schedule_blocking_sync);
  Context context = nullptr;
  driver_.run(bus_id_, driver_.cuDevicePrimaryCtxRetain, &context, device);
  context_ = {context, [this, device](Context) {
                driver_.cuCtxSetCurrent.function(nullptr);
                driver_.cuDevicePrimaryCtxRelease.function(device);
              }};
  make_current();
}

Device::Handle<Stream> Device::create_stream() const {
  Stream stream = nullptr;
  driver_.run(bus_id_, driver_.cuStreamCreate, &stream, stream_non_blocking);
  return {stream, driver_.cuStreamDestroy.function};
}

Device::Handle<Event> Device::create_event() const {
  Event event = nullptr;
  driver_.run(bus_id_, driver_.cuEventCreate, &event, event_disable_timing);
  return {event, driver_.cuEventDestroy.function};
}

Device::Pinned Device::pin() const {
  void* memory = nullptr;
  driver_.run(bus_id_, driver_.cuMemHostAlloc, &memory, piece_bytes, 0u);
  Handle<void*> pinned(memory, driver_.cuMemFreeHost.function);
  return {std::move(pinned), create_event()};
}

void Device::make_current() const {
  if (hangs_) throw_hangs();
  driver_.run(bus_id_, driver_.cuCtxSetCurrent, context_.get());
}

void Device::throw_hangs() const {
  throw CudaError(bus_id_ + ": the card hangs: it has finished nothing for " + seconds_text(timeout_) +
                  "; restart the machine");
}

void Device::load(std::span<const std::byte> image) {
  Module module = nullptr;
  driver_.run(bus_id_ + ": " + std::string(code_.name), driver_.cuModuleLoadData, &module,
              static_cast<const void*>(image.data()));
  modules_.push_back({module, driver_.cuModuleUnload.function});
}

// Null where the code has no such kernel.
Device::Kernel* Device::find(const std::string& name) {
  const auto known = kernels_.find(name);
  if (known != kernels_.end()) return &known->second;
  for (const Handle<Module>& module : modules_) {
    Function function = nullptr;
    const Result found = driver_.cuModuleGetFunction.function(&function, module.get(), name.c_str());
    if (found == result::success) return &(kernels_[name] = {function, 0});
    if (found != result::not_found) throw driver_.error(bus_id_ + ": " + name, driver_.cuModuleGetFunction.name, found);
  }
  return nullptr;
}

bool Device::has(const char* kernel) {
  make_current();
  return find(kernel) != nullptr;
}

void Device::launch(const Launch& launch) {
  make_current();
  Kernel* const found = find(launch.kernel);
  if (found == nullptr) throw CudaError(bus_id_ + ": no kernel " + launch.kernel + " in " + std::string(code_.name));
  Kernel& kernel = *found;
  const std::string where = bus_id_ + ": " + launch.kernel;
  if (launch.shared_bytes > kernel.shared_bytes) {  // beyond 48 KB it must be asked for
    driver_.run(where, driver_.cuFuncSetAttribute, kernel.function, attribute::maximum_dynamic_shared_bytes,
                static_cast<int>(launch.shared_bytes));
    kernel.shared_bytes = launch.shared_bytes;
  }
  size_t bytes = launch.args_bytes;
  void* buffer[] = {launch_buffer_pointer, const_cast<void*>(launch.args), launch_buffer_size, &bytes, nullptr};
  driver_.run(where, driver_.cuLaunchKernel, kernel.function, launch.grid[0], launch.grid[1], launch.grid[2],
              launch.block[0], launch.block[1], launch.block[2], launch.shared_bytes, stream_.get(),
              static_cast<void**>(nullptr), static_cast<void**>(buffer));
  queued();
}

void Device::launch_by(const std::function<void(Stream)>& launches) {
  make_current();
  launches(stream_.get());
  queued();
}

void* Device::allocate(size_t bytes) {
  make_current();
  DevicePointer device = 0;
  const std::string where = bus_id_ + ": " + std::to_string(bytes) + " bytes";
  const Result failed = driver_.cuMemAlloc.function(&device, std::max<size_t>(bytes, 1));
  if (failed == result::out_of_memory) {
    throw CudaOutOfMemory(driver_.error(where, driver_.cuMemAlloc.name, failed).what());
  }
  if (failed != result::success) throw driver_.error(where, driver_.cuMemAlloc.name, failed);
  return reinterpret_cast<void*>(device);  // NOLINT(performance-no-int-to-ptr): the driver's addresses are numbers
}

void Device::free(void* device) noexcept {
  if (device == nullptr) return;
  driver_.cuCtxSetCurrent.function(context_.get());
  if (answers()) driver_.cuMemFree.function(number(device));
}

// While one piece is on its way, the host copies the other.
void Device::read(void* host, const void* device, size_t bytes) {
  make_current();
  if (bytes == 0) return;
  wait_for_marks();
  const auto piece_at = [bytes](size_t offset) { return std::min(piece_bytes, bytes - offset); };
  start_reading(pinned_[0], device, piece_at(0));
  for (size_t done = 0, turn = 0; done < bytes; done += piece_bytes, ++turn) {
    const size_t next = done + piece_bytes;
    if (next < bytes) {
      start_reading(pinned_[(turn + 1) % 2], static_cast<const std::byte*>(device) + next, piece_at(next));
    }
    const Pinned& pinned = pinned_[turn % 2];
    wait_for(pinned.passed);
    std::memcpy(static_cast<std::byte*>(host) + done, pinned.memory.get(), piece_at(done));
  }
}

void Device::start_reading(Pinned& pinned, const void* device, size_t bytes) {
  driver_.run(bus_id_, driver_.cuMemcpyDtoHAsync, pinned.memory.get(), number(device), bytes, stream_.get());
  driver_.run(bus_id_, driver_.cuEventRecord, pinned.passed.get(), stream_.get());
}

// The last pieces may still be on their way on return.
void Device::write(void* device, const void* host, size_t bytes) {
  make_current();
  for (size_t done = 0, turn = 0; done < bytes; done += piece_bytes, ++turn) {
    const size_t piece = std::min(piece_bytes, bytes - done);
    const Pinned& pinned = pinned_[turn % 2];
    wait_for(pinned.passed);
    std::memcpy(pinned.memory.get(), static_cast<const std::byte*>(host) + done, piece);
    driver_.run(bus_id_, driver_.cuMemcpyHtoDAsync, number(device) + done,
                static_cast<const void*>(pinned.memory.get()), piece, stream_.get());
    driver_.run(bus_id_, driver_.cuEventRecord, pinned.passed.get(), stream_.get());
    queued();
  }
}

void Device::copy(void* to, const void* from, size_t bytes) {
  make_current();
  driver_.run(bus_id_, driver_.cuMemcpyDtoDAsync, number(to), number(from), bytes, stream_.get());
  queued();
}

void Device::zero(void* device, size_t bytes) {
  make_current();
  driver_.run(bus_id_, driver_.cuMemsetD8Async, number(device), static_cast<unsigned char>(0), bytes, stream_.get());
  queued();
}

size_t Device::free_bytes() {
  make_current();
  size_t free = 0, total = 0;
  driver_.run(bus_id_, driver_.cuMemGetInfo, &free, &total);
  return free;
}

// With this the queue holds at most what follows the older mark: two times the launches to a mark.
void Device::queued() {
  if (++unmarked_ == launches_to_a_mark) set_mark();
}

void Device::set_mark() {
  wait_for(older_mark_);
  std::swap(older_mark_, newest_mark_);
  driver_.run(bus_id_, driver_.cuEventRecord, newest_mark_.get(), stream_.get());
  unmarked_ = 0;
}

bool Device::passed(const Handle<Event>& event) const {
  const Result state = driver_.cuEventQuery.function(event.get());
  if (state == result::success) return true;
  if (state == result::not_ready) return false;
  throw driver_.error(bus_id_, driver_.cuEventQuery.name, state);
}

void Device::wait_for(const Handle<Event>& event) {
  const SteadyClock::time_point begin = SteadyClock::now();
  while (!passed(event)) {
    const SteadyClock::duration waited = SteadyClock::now() - begin;
    hangs_ = waited > timeout_;
    if (hangs_) throw_hangs();
    sleep_a_part_of(waited);
  }
}

// One by one: the timeout is for the work between two.
void Device::wait_for_marks() {
  wait_for(older_mark_);
  wait_for(newest_mark_);
}

void Device::synchronise() {
  make_current();
  wait_for_marks();
  set_mark();
  wait_for(newest_mark_);
}

Stream Device::side_stream() {
  make_current();
  if (!side_stream_) {
    side_mark_ = create_event();
    side_stream_ = create_stream();
  }
  return side_stream_.get();
}

void Device::mark_side_stream() {
  make_current();
  driver_.run(bus_id_, driver_.cuEventRecord, side_mark_.get(), side_stream_.get());
}

bool Device::side_stream_passed() {
  make_current();
  return passed(side_mark_);
}

// Whether calls that wait for the card return.
bool Device::answers() noexcept {
  try {
    synchronise();
    if (side_stream_) wait_for(side_mark_);
  } catch (const std::exception&) {
    // It answers as well where it says that something has failed.
  }
  return !hangs_;
}

}  // namespace kernels::cuda
