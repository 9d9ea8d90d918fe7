#include "cuda_driver/device_calls.h"

#include <algorithm>
#include <thread>
#include <utility>

namespace kernels::cuda {
namespace {

using SteadyClock = std::chrono::steady_clock;

// Between two marks. The driver's queue holds about a thousand launches.
constexpr unsigned launches_to_a_mark = 64;

DevicePointer address(const void* device) { return reinterpret_cast<DevicePointer>(device); }

}  // namespace

void sleep_a_part_of(std::chrono::steady_clock::duration waited) {
  using std::chrono::microseconds;
  const auto part = std::chrono::duration_cast<microseconds>(waited / 64);
  std::this_thread::sleep_for(std::clamp(part, microseconds(20), microseconds(5000)));
}

DeviceCalls::DeviceCalls(Driver driver, const CudaCard& card, const Code& code, std::chrono::milliseconds timeout)
    : driver_(std::move(driver)), bus_id_(card.bus_id), ordinal_(card.ordinal), code_(code), timeout_(timeout) {
  start_context();
  stream_ = create_stream();
  newest_mark_ = create_event();
  older_mark_ = create_event();
  for (Pinned& pinned : pinned_) pinned = pin();
  for (const std::span<const std::byte> image : code_.images) load(image);
}

void DeviceCalls::end() {
  const bool keeps = !answers();
  const auto end = [keeps](auto& handle) {
    if (keeps) static_cast<void>(handle.release());
    handle.reset();
  };
  for (auto& recording : recordings_) end(recording.second);  // before the functions that they launch
  for (Handle<Module>& module : modules_) end(module);
  for (Pinned& pinned : pinned_) {
    end(pinned.memory);
    end(pinned.passed);
  }
  end(newest_mark_);
  end(older_mark_);
  end(side_mark_);
  end(side_stream_);
  end(stream_);
  end(context_);
  rethrow();
}

// A card that has failed says so of every call: whoever waited for it knows, and where nobody did, nobody wants what it
// computed.
template <typename... Arguments, typename... Given>
void DeviceCalls::give_back(const Call<Arguments...>& call, Given... given) noexcept {
  const Result result = call(given...);
  if (result == result::success || has_failed_) return;
  failure_.attempt([&] { driver_.fail(bus_id_, call.name, result); });
}

// As a deleter.
template <typename T>
auto DeviceCalls::giving_back_by(const Call<T>& call) {
  return [this, &call](T handle) { give_back(call, handle); };
}

void DeviceCalls::start_context() {
  Ordinal device = 0;
  driver_.run(bus_id_, driver_.cuDeviceGet, &device, ordinal_);
  int multiprocessors = 0;
  driver_.run(bus_id_, driver_.cuDeviceGetAttribute, &multiprocessors, attribute::multiprocessors, device);
  multiprocessors_ = static_cast<uint32_t>(multiprocessors);
  driver_.run(bus_id_, driver_.cuDevicePrimaryCtxSetFlags, device, schedule_blocking_sync);
  Context context = nullptr;
  driver_.run(bus_id_, driver_.cuDevicePrimaryCtxRetain, &context, device);
  context_ = {context, [this, device](Context) {
                give_back(driver_.cuCtxSetCurrent, nullptr);
                give_back(driver_.cuDevicePrimaryCtxRelease, device);
              }};
  driver_.run(bus_id_, driver_.cuCtxSetCurrent, context);
}

DeviceCalls::Handle<Stream> DeviceCalls::create_stream() {
  Stream stream = nullptr;
  driver_.run(bus_id_, driver_.cuStreamCreate, &stream, stream_non_blocking);
  return {stream, giving_back_by(driver_.cuStreamDestroy)};
}

DeviceCalls::Handle<Event> DeviceCalls::create_event() {
  Event event = nullptr;
  driver_.run(bus_id_, driver_.cuEventCreate, &event, event_disable_timing);
  return {event, giving_back_by(driver_.cuEventDestroy)};
}

DeviceCalls::Pinned DeviceCalls::pin() {
  void* memory = nullptr;
  driver_.run(bus_id_, driver_.cuMemHostAlloc, &memory, piece_bytes, 0u);
  Handle<void*> pinned(memory, giving_back_by(driver_.cuMemFreeHost));
  return {std::move(pinned), create_event()};
}

void DeviceCalls::require_answers() const {
  if (!hangs_) return;
  throw CudaError(bus_id_ + ": the card hangs: it has finished nothing for " + seconds_text(timeout_) +
                  "; restart the machine");
}

void DeviceCalls::attempt(const std::function<void(DeviceCalls&)>& step) noexcept {
  if (!failure_.is_there()) failure_.attempt([&] { step(*this); });
}

void DeviceCalls::rethrow() { failure_.rethrow(); }

void DeviceCalls::load(std::span<const std::byte> image) {
  Module module = nullptr;
  driver_.run(bus_id_ + ": " + std::string(code_.name), driver_.cuModuleLoadData, &module,
              static_cast<const void*>(image.data()));
  modules_.push_back({module, giving_back_by(driver_.cuModuleUnload)});
}

// Null where the code has no such kernel.
DeviceCalls::Kernel* DeviceCalls::find(const std::string& name) {
  const auto known = kernels_.find(name);
  if (known != kernels_.end()) return &known->second;
  for (const Handle<Module>& module : modules_) {
    Function function = nullptr;
    const Result found = driver_.cuModuleGetFunction(&function, module.get(), name.c_str());
    if (found == result::success) return &(kernels_[name] = {function, 0});
    if (found != result::not_found) driver_.fail(bus_id_ + ": " + name, driver_.cuModuleGetFunction.name, found);
  }
  return nullptr;
}

bool DeviceCalls::has(const std::string& kernel) {
  require_answers();
  return find(kernel) != nullptr;
}

void DeviceCalls::launch(const Launch& launch) {
  require_answers();
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

void DeviceCalls::launch_by(const std::function<void(Stream)>& launches) {
  require_answers();
  launches(stream_.get());
  queued();
}

void* DeviceCalls::allocate(size_t bytes) {
  require_answers();
  DevicePointer device = 0;
  const std::string where = bus_id_ + ": " + std::to_string(bytes) + " bytes";
  driver_.run(where, driver_.cuMemAlloc, &device, std::max<size_t>(bytes, 1));
  return reinterpret_cast<void*>(device);  // NOLINT(performance-no-int-to-ptr): the driver's addresses are numbers
}

void DeviceCalls::free(void* device) noexcept {
  if (device != nullptr && answers()) give_back(driver_.cuMemFree, address(device));
}

std::byte* DeviceCalls::piece(size_t number) const { return static_cast<std::byte*>(pinned_[number % 2].memory.get()); }

void DeviceCalls::wait_for_piece(size_t number) {
  require_answers();
  wait_for(pinned_[number % 2].passed);
}

void DeviceCalls::read_piece(size_t number, const void* device, size_t bytes) {
  require_answers();
  if (number == 0) {
    wait_for_marks();
    start_reading(0, device, bytes);
  }
  if ((number + 1) * piece_bytes < bytes) start_reading(number + 1, device, bytes);
  wait_for_piece(number);
}

void DeviceCalls::start_reading(size_t number, const void* device, size_t bytes) {
  const size_t begin = number * piece_bytes;
  const Pinned& pinned = pinned_[number % 2];
  driver_.run(bus_id_, driver_.cuMemcpyDtoHAsync, pinned.memory.get(), address(device) + begin,
              std::min(piece_bytes, bytes - begin), stream_.get());
  driver_.run(bus_id_, driver_.cuEventRecord, pinned.passed.get(), stream_.get());
}

void DeviceCalls::write_piece(size_t number, void* device, size_t bytes) {
  require_answers();
  const size_t begin = number * piece_bytes;
  const Pinned& pinned = pinned_[number % 2];
  driver_.run(bus_id_, driver_.cuMemcpyHtoDAsync, address(device) + begin,
              static_cast<const void*>(pinned.memory.get()), std::min(piece_bytes, bytes - begin), stream_.get());
  driver_.run(bus_id_, driver_.cuEventRecord, pinned.passed.get(), stream_.get());
  queued();
}

void DeviceCalls::copy(void* to, const void* from, size_t bytes) {
  require_answers();
  driver_.run(bus_id_, driver_.cuMemcpyDtoDAsync, address(to), address(from), bytes, stream_.get());
  queued();
}

void DeviceCalls::zero(void* device, size_t bytes) {
  require_answers();
  driver_.run(bus_id_, driver_.cuMemsetD8Async, address(device), static_cast<unsigned char>(0), bytes, stream_.get());
  queued();
}

size_t DeviceCalls::free_bytes() {
  require_answers();
  size_t free = 0, total = 0;
  driver_.run(bus_id_, driver_.cuMemGetInfo, &free, &total);
  return free;
}

// With this the queue holds at most what follows the older mark: two times the launches to a mark.
void DeviceCalls::queued() {
  if (!recording_ && ++unmarked_ == launches_to_a_mark) set_mark();
}

void DeviceCalls::set_mark() {
  wait_for(older_mark_);
  std::swap(older_mark_, newest_mark_);
  driver_.run(bus_id_, driver_.cuEventRecord, newest_mark_.get(), stream_.get());
  unmarked_ = 0;
}

bool DeviceCalls::passed(const Handle<Event>& event) const {
  const Result state = driver_.cuEventQuery(event.get());
  if (state == result::success) return true;
  if (state == result::not_ready) return false;
  driver_.fail(bus_id_, driver_.cuEventQuery.name, state);
}

void DeviceCalls::wait_for(const Handle<Event>& event) {
  if (recording_) throw std::logic_error(bus_id_ + ": waiting for what is only recorded");
  const SteadyClock::time_point begin = SteadyClock::now();
  while (!passed(event)) {
    const SteadyClock::duration waited = SteadyClock::now() - begin;
    hangs_ = waited > timeout_;
    require_answers();
    sleep_a_part_of(waited);
  }
}

// One by one: the timeout is for the work between two.
void DeviceCalls::wait_for_marks() {
  wait_for(older_mark_);
  wait_for(newest_mark_);
}

void DeviceCalls::synchronise() {
  require_answers();
  wait_for_marks();
  set_mark();
  wait_for(newest_mark_);
}

bool DeviceCalls::begin_recording() {
  require_answers();
  recording_ =
      driver_.graphs && driver_.graphs->cuStreamBeginCapture(stream_.get(), capture_of_this_thread) == result::success;
  return recording_;
}

// What failed meanwhile says only that this cannot be recorded.
bool DeviceCalls::end_recording(size_t number) {
  const bool failed = failure_.drop();
  recording_ = false;
  Graph captured = nullptr;
  const Result ended = driver_.graphs->cuStreamEndCapture(stream_.get(), &captured);
  const Handle<Graph> graph(captured, giving_back_by(driver_.graphs->cuGraphDestroy));
  if (failed || ended != result::success) return false;
  GraphExec made = nullptr;
  if (driver_.graphs->cuGraphInstantiate(&made, captured, nullptr, nullptr, size_t{0}) != result::success) return false;
  recordings_[number] = {made, giving_back_by(driver_.graphs->cuGraphExecDestroy)};
  return true;
}

// A mark behind each: the queue holds two at most.
void DeviceCalls::replay(size_t number) {
  require_answers();
  driver_.run(bus_id_, driver_.graphs->cuGraphLaunch, recordings_.at(number).get(), stream_.get());
  set_mark();
}

void DeviceCalls::drop_recording(size_t number) noexcept {
  const auto found = recordings_.find(number);
  if (found == recordings_.end()) return;
  if (!answers()) static_cast<void>(found->second.release());
  recordings_.erase(found);
}

Stream DeviceCalls::side_stream() {
  require_answers();
  if (!side_stream_) {
    side_mark_ = create_event();
    side_stream_ = create_stream();
  }
  return side_stream_.get();
}

void DeviceCalls::mark_side_stream() {
  require_answers();
  driver_.run(bus_id_, driver_.cuEventRecord, side_mark_.get(), side_stream_.get());
}

bool DeviceCalls::side_stream_passed() {
  require_answers();
  return passed(side_mark_);
}

// Whether calls that wait for the card return.
bool DeviceCalls::answers() noexcept {
  try {
    synchronise();
    if (side_stream_) wait_for(side_mark_);
  } catch (const CudaError&) {
    has_failed_ = true;  // it answers as well where it says so
  } catch (const std::exception&) {
    // It records, or the host has no memory: nothing of the card.
  }
  return !hangs_;
}

}  // namespace kernels::cuda
