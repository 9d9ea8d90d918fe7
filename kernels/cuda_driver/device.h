// One card: the kernels of this program loaded, one queue of launches, memory, copies.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "cuda_driver/code.h"
#include "cuda_driver/driver.h"
#include "cuda_host/launch.h"
#include "kernels/cuda_cards.h"

namespace kernels::cuda {

// For whoever waits by asking again and again: costs a wait at most a 64th of its length, or 20 us; a long one wakes
// the thread 200 times a second.
void sleep_a_part_of(std::chrono::steady_clock::duration waited);

std::string seconds_text(std::chrono::milliseconds time);  // "0.5 s"

// Uses the card's primary context; a thread that waits for the card sleeps. A process has at most one Device for a card
// at a time. Every function throws CudaError, which names the card by its bus id; allocate() CudaOutOfMemory as well.
//
// A card may hang, and calls of the driver that wait for it never return then: also a launch, once the driver's queue
// is full, and what frees memory. So the queue is kept short, and a card is waited for by asking, until `timeout` has
// passed with nothing finished; from then on nothing is asked of it any more.
class Device final : public Launcher {
 public:
  // Loads `code`, see code_for(). `driver` and `code` outlive it.
  Device(const Driver& driver, const CudaCard& card, const Code& code, std::chrono::milliseconds timeout);
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ~Device() override;

  bool has(const char* kernel) override;
  uint32_t multiprocessors() const override { return multiprocessors_; }
  void launch(const Launch& launch) override;
  void* allocate(size_t bytes) override;
  void free(void* device) noexcept override;
  void read(void* host, const void* device, size_t bytes) override;
  void write(void* device, const void* host, size_t bytes) override;
  void copy(void* to, const void* from, size_t bytes) override;
  void zero(void* device, size_t bytes) override;
  size_t free_bytes() override;

  // For a library that launches by itself: it puts a few launches into the queue, which is given, in this call.
  void launch_by(const std::function<void(Stream)>& launches);

  // Waits for all launches; a launch that failed on the card is an error here, or in the next copy.
  void synchronise();

  // A second queue, for NCCL, which puts its own work there; the two are in no order. Made when first asked for; the
  // card counts as answering only if it gets through this one, too.
  Stream side_stream();
  // Sets a mark behind what is in it, and whether the card has passed the newest one.
  void mark_side_stream();
  bool side_stream_passed();

  const std::string& bus_id() const { return bus_id_; }
  Ordinal ordinal() const { return ordinal_; }
  Context context() const { return context_.get(); }
  std::chrono::milliseconds timeout() const { return timeout_; }

 private:
  template <typename T>
  using Handle = std::unique_ptr<std::remove_pointer_t<T>, std::function<void(T)>>;
  // Memory of the host that a card reads and writes by itself; copies pass through it.
  struct Pinned {
    Handle<void*> memory;
    Handle<Event> passed;  // the newest copy that passes through
  };
  struct Kernel {
    Function function = nullptr;
    uint32_t shared_bytes = 0;  // dynamic shared memory that it may have
  };

  void make_current() const;
  [[noreturn]] void throw_hangs() const;
  void start_context();
  Handle<Stream> create_stream() const;
  Handle<Event> create_event() const;
  Pinned pin() const;
  void load(std::span<const std::byte> image);
  Kernel* find(const std::string& name);
  void queued();
  void set_mark();
  bool passed(const Handle<Event>& event) const;
  void wait_for(const Handle<Event>& event);
  void wait_for_marks();
  void start_reading(Pinned& pinned, const void* device, size_t bytes);
  bool answers() noexcept;

  const Driver& driver_;
  const std::string bus_id_;
  const Ordinal ordinal_;
  const Code& code_;
  const std::chrono::milliseconds timeout_;
  uint32_t multiprocessors_ = 0;
  bool hangs_ = false;
  Handle<Context> context_;
  Handle<Stream> stream_, side_stream_;
  Handle<Event> newest_mark_, older_mark_;  // in the queue; the older is waited for before the next is set
  unsigned unmarked_ = 0;                   // launches and copies behind the newest
  Handle<Event> side_mark_;
  Pinned pinned_[2];  // in turn, a piece at a time
  std::vector<Handle<Module>> modules_;
  std::map<std::string, Kernel> kernels_;
};

}  // namespace kernels::cuda
