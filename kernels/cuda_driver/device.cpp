#include "cuda_driver/device.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <vector>

namespace kernels::cuda {
namespace {

// After so many the next waits until all have been taken: what is given to a card stays short.
constexpr unsigned most_posted = 64;

}  // namespace

// On their way to the thread, which shares them.
class Device::Steps {
 public:
  void add(Step step) {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(std::move(step));
    changed_.notify_one();
  }
  // Those that wait are made yet.
  void end() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_one();
  }
  // The thread: until the end, or until it finds itself left behind.
  void make(DeviceCalls& calls, const CallWatch& watch) {
    for (std::optional<Step> step; !watch.left_behind && (step = next());) (*step)(calls);
    if (watch.left_behind) calls.give_up();
  }

 private:
  std::optional<Step> next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ended_ || !waiting_.empty(); });
    if (waiting_.empty()) return std::nullopt;
    Step step = std::move(waiting_.front());
    waiting_.pop_front();
    return step;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Step> waiting_;
  bool ended_ = false;
};

// What `body` returns or throws, after all that was posted, whatever of that has failed.
template <typename Body>
auto Device::ask(Body body) {
  using Value = std::invoke_result_t<Body, DeviceCalls&>;
  const auto task = std::make_shared<std::packaged_task<Value(DeviceCalls&)>>(std::move(body));
  steps_->add([task](DeviceCalls& calls) { (*task)(calls); });
  return thread_->get(task->get_future());
}

// The same, or what has failed.
template <typename Body>
auto Device::run(Body body) {
  return ask([body](DeviceCalls& calls) {
    calls.rethrow();
    return body(calls);
  });
}

void Device::post(Step step) {
  thread_->require_not_left();
  steps_->add([step = std::move(step)](DeviceCalls& calls) { calls.attempt(step); });
  if (++posted_ % most_posted == 0) run([](DeviceCalls&) {});
}

Device::Device(const Driver& driver, const CudaCard& card, const Code& code, std::chrono::milliseconds timeout,
               Tell give_back_failed)
    : bus_id_(card.bus_id),
      ordinal_(card.ordinal),
      code_(code),
      timeout_(timeout),
      give_back_failed_(std::move(give_back_failed)),
      steps_(std::make_shared<Steps>()) {
  std::promise<Opened> promise;
  std::future<Opened> opened = promise.get_future();
  thread_.emplace(
      bus_id_, timeout,
      [driver, card, &code, timeout, steps = steps_, promise = std::move(promise)](const CallWatch& watch) mutable {
        std::optional<DeviceCalls> calls;
        try {
          calls.emplace(driver, card, code, timeout);
        } catch (...) {
          return promise.set_exception(std::current_exception());
        }
        promise.set_value({calls->context(), calls->multiprocessors(), {calls->piece(0), calls->piece(1)}});
        steps->make(*calls, watch);
        calls->end();
      });
  try {
    opened_ = thread_->get(std::move(opened), start_limits * timeout);
  } catch (...) {
    steps_->end();
    throw;
  }
}

Device::~Device() {
  steps_->end();
  give_back([this] { thread_->end(); });
}

// That a thread was left behind was said then.
template <typename Body>
void Device::give_back(Body body) noexcept {
  if (thread_->is_left()) return;
  try {
    body();
  } catch (const std::exception& error) {
    give_back_failed(error.what());
  }
}

void Device::give_back_failed(const std::string& what) const noexcept {
  try {
    if (give_back_failed_) give_back_failed_(what);
  } catch (const std::exception&) {
    // The host has no memory to say so.
  }
}

bool Device::has(const char* kernel) {
  return run([kernel = std::string(kernel)](DeviceCalls& calls) { return calls.has(kernel); });
}

void Device::launch(const Launch& launch) {
  const auto* const args = static_cast<const std::byte*>(launch.args);
  post([launch, kernel = std::string(launch.kernel),
        args = std::vector(args, args + launch.args_bytes)](DeviceCalls& calls) {
    Launch own = launch;
    own.kernel = kernel.c_str();
    own.args = args.data();
    calls.launch(own);
  });
}

bool Device::by_library(std::function<bool(DeviceCalls&)> calls) { return run(std::move(calls)); }

void Device::end_library(std::function<void(DeviceCalls&)> end) noexcept {
  give_back([&] { ask(std::move(end)); });
}

void* Device::allocate(size_t bytes) {
  return run([bytes](DeviceCalls& calls) { return calls.allocate(bytes); });
}

// Where the host has no memory for a step, the card keeps the block.
void Device::free(void* device) noexcept {
  try {
    steps_->add([device](DeviceCalls& calls) { calls.free(device); });
  } catch (const std::bad_alloc&) {
  }
}

class Device::DeviceRecording final : public Recording {
 public:
  DeviceRecording(Device& device, size_t number) : device_(device), number_(number) {}
  DeviceRecording(const DeviceRecording&) = delete;
  DeviceRecording& operator=(const DeviceRecording&) = delete;
  // Where the host has no memory for a step, the Device keeps it until its own end.
  ~DeviceRecording() override {
    try {
      device_.steps_->add([number = number_](DeviceCalls& calls) { calls.drop_recording(number); });
    } catch (const std::bad_alloc&) {
    }
  }

  bool begin() override {
    return device_.run([](DeviceCalls& calls) { return calls.begin_recording(); });
  }
  bool end() override {
    return device_.ask([number = number_](DeviceCalls& calls) { return calls.end_recording(number); });
  }
  void replay() override {
    device_.post([number = number_](DeviceCalls& calls) { calls.replay(number); });
  }

 private:
  Device& device_;
  const size_t number_;
};

std::unique_ptr<Recording> Device::make_recording() { return std::make_unique<DeviceRecording>(*this, ++recordings_); }

// While one piece is on its way, the host copies the other.
void Device::read(void* host, const void* device, size_t bytes) {
  for (size_t number = 0, done = 0; done < bytes; ++number, done += piece_bytes) {
    run([=](DeviceCalls& calls) { calls.read_piece(number, device, bytes); });
    std::memcpy(static_cast<std::byte*>(host) + done, opened_.pieces[number % 2], std::min(piece_bytes, bytes - done));
  }
}

// The last pieces may still be on their way on return.
void Device::write(void* device, const void* host, size_t bytes) {
  for (size_t number = 0, done = 0; done < bytes; ++number, done += piece_bytes) {
    run([=](DeviceCalls& calls) { calls.wait_for_piece(number); });
    std::memcpy(opened_.pieces[number % 2], static_cast<const std::byte*>(host) + done,
                std::min(piece_bytes, bytes - done));
    post([=](DeviceCalls& calls) { calls.write_piece(number, device, bytes); });
  }
}

void Device::copy(void* to, const void* from, size_t bytes) {
  post([=](DeviceCalls& calls) { calls.copy(to, from, bytes); });
}

void Device::zero(void* device, size_t bytes) {
  post([=](DeviceCalls& calls) { calls.zero(device, bytes); });
}

size_t Device::free_bytes() {
  return run([](DeviceCalls& calls) { return calls.free_bytes(); });
}

void Device::synchronise() {
  run([](DeviceCalls& calls) { calls.synchronise(); });
}

Stream Device::side_stream() {
  return run([](DeviceCalls& calls) { return calls.side_stream(); });
}

void Device::mark_side_stream() {
  run([](DeviceCalls& calls) { calls.mark_side_stream(); });
}

bool Device::side_stream_passed() {
  return run([](DeviceCalls& calls) { return calls.side_stream_passed(); });
}

Device open_device(const Driver& driver, const CudaCard& card, std::span<const Code* const> codes,
                   std::chrono::milliseconds timeout, const Device::Tell& give_back_failed) {
  std::string refusals;
  for (const Code* code : codes) {
    try {
      return Device(driver, card, *code, timeout, give_back_failed);
    } catch (const CodeRefused& refused) {
      refusals += std::string(refused.what()) + "; ";
    }
  }
  throw CudaError(refusals + "the driver supports CUDA " + version_text(driver.version) + ", a newer one is needed");
}

}  // namespace kernels::cuda
