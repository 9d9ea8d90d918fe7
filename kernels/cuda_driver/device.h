// One card: the kernels of this program loaded, one queue of launches, memory, copies.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "cuda_driver/device_calls.h"
#include "cuda_host/launch.h"

namespace kernels::cuda {

// Uses the card's primary context. A process has at most one Device for a card at a time, used by one thread at a time.
// Every function throws CudaError, which names the card by its bus id, CudaOutOfMemory where its memory does not
// suffice. What fails in launch(), copy(), zero(), free() or at the end of write() is thrown by the next function that
// waits; where none does any more, and where something fails at the end, that is told, once.
//
// The driver is called by a thread of the Device's own: a call may never return, and is left behind with it after
// `timeout`, or five times as long while the Device is made. That thread touches nothing but what it owns, and copies
// of what it is given. From then on, or where the card finishes nothing for so long, nothing is asked of the card any
// more.
class Device final : public Launcher {
 public:
  using Tell = std::function<void(const std::string&)>;

  // Loads `code`, see code_for(), which outlives it, and the program where a call does not return. Throws CodeRefused
  // where the driver does not take it. What fails at the end is told by the thread that ends it.
  Device(const Driver& driver, const CudaCard& card, const Code& code, std::chrono::milliseconds timeout,
         Tell give_back_failed = {});
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ~Device() override;

  bool has(const char* kernel) override;
  uint32_t multiprocessors() const override { return opened_.multiprocessors; }
  void launch(const Launch& launch) override;
  void* allocate(size_t bytes) override;
  void free(void* device) noexcept override;
  void read(void* host, const void* device, size_t bytes) override;
  void write(void* device, const void* host, size_t bytes) override;
  void copy(void* to, const void* from, size_t bytes) override;
  void zero(void* device, size_t bytes) override;
  size_t free_bytes() override;
  std::unique_ptr<Recording> make_recording() override;

  // What a library calls that launches by itself, see DeviceCalls::launch_by(): on the Device's thread, after all that
  // was queued; returns or throws what `calls` does. It owns what it uses.
  bool by_library(std::function<bool(DeviceCalls&)> calls);
  // The end of a library, whatever has failed before, which the next function that waits throws as ever.
  void end_library(std::function<void(DeviceCalls&)> end) noexcept;
  // For what else is given back at its end, and fails in that.
  void give_back_failed(const std::string& what) const noexcept;

  // Waits for all launches; a launch that failed on the card is an error here, or in the next copy.
  void synchronise();

  // A second queue, for NCCL, which puts its own work there; the two are in no order. Made when first asked for; the
  // card counts as answering only if it gets through this one, too.
  Stream side_stream();
  // Sets a mark behind what is in it, and whether the card has passed the newest one.
  void mark_side_stream();
  bool side_stream_passed();

  const std::string& bus_id() const { return bus_id_; }
  const Code& code() const { return code_; }
  Ordinal ordinal() const { return ordinal_; }
  Context context() const { return opened_.context; }
  std::chrono::milliseconds timeout() const { return timeout_; }

 private:
  // On the Device's thread, in this order; a step owns what it uses.
  using Step = std::function<void(DeviceCalls&)>;
  class Steps;
  class DeviceRecording;
  // Of the thread, until it is left behind.
  struct Opened {
    Context context = nullptr;
    uint32_t multiprocessors = 0;
    std::byte* pieces[2] = {};
  };
  void post(Step step);
  template <typename Body>
  auto ask(Body body);
  template <typename Body>
  auto run(Body body);
  template <typename Body>
  void give_back(Body body) noexcept;

  const std::string bus_id_;
  const Ordinal ordinal_;
  const Code& code_;
  const std::chrono::milliseconds timeout_;
  const Tell give_back_failed_;
  const std::shared_ptr<Steps> steps_;
  Opened opened_;
  unsigned posted_ = 0;
  size_t recordings_ = 0;                // so far
  std::optional<WatchedThread> thread_;  // there after the constructor
};

// With the first of `codes` that the driver takes; see codes_for(). Throws CudaError where it takes none.
Device open_device(const Driver& driver, const CudaCard& card, std::span<const Code* const> codes,
                   std::chrono::milliseconds timeout, const Device::Tell& give_back_failed = {});

}  // namespace kernels::cuda
