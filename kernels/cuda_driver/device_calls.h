// What calls the driver for one card: the kernels of this program loaded, one queue of launches, memory, copies.
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
#include "cuda_driver/kept_failure.h"
#include "cuda_host/launch.h"
#include "kernels/cuda_cards.h"

namespace kernels::cuda {

constexpr size_t piece_bytes = 4 << 20;

// For whoever waits by asking again and again: costs a wait at most a 64th of its length, or 20 us; a long one wakes
// the thread 200 times a second.
void sleep_a_part_of(std::chrono::steady_clock::duration waited);

// Made, used and destroyed by one thread, whose context is the card's. A thread that waits for the card sleeps. Every
// function throws CudaError, which names the card by its bus id, CudaOutOfMemory where its memory does not suffice.
//
// A card may hang, and calls of the driver that wait for it never return then: also a launch, once the driver's queue
// is full, and what frees memory. So the queue is kept short, and a card is waited for by asking, until `timeout` has
// passed with nothing finished; from then on nothing is asked of it any more. Calls that wait for nothing and do not
// return either are a matter of whoever waits for the thread (device.h).
class DeviceCalls {
 public:
  // As Device.
  DeviceCalls(Driver driver, const CudaCard& card, const Code& code, std::chrono::milliseconds timeout);
  DeviceCalls(const DeviceCalls&) = delete;
  DeviceCalls& operator=(const DeviceCalls&) = delete;
  ~DeviceCalls() = default;

  // The last call: gives all back. Throws what failed in that, or before without anybody's waiting. A card that does
  // not answer keeps what it has.
  void end();

  // What fails where nobody waits for it: it is kept, and nothing is done until rethrow() has thrown it.
  void attempt(const std::function<void(DeviceCalls&)>& step) noexcept;
  void rethrow();
  // The card was waited for in vain: it keeps what it holds.
  void give_up() { hangs_ = true; }

  bool has(const std::string& kernel);
  void launch(const Launch& launch);
  // For a library: it puts a few launches into the queue, which is given.
  void launch_by(const std::function<void(Stream)>& launches);
  void* allocate(size_t bytes);
  void free(void* device) noexcept;
  void copy(void* to, const void* from, size_t bytes);
  void zero(void* device, size_t bytes);
  size_t free_bytes();
  void synchronise();

  // Copies pass through two pieces of the host's memory, in turn: piece number i through the i-th modulo 2.
  std::byte* piece(size_t number) const;
  // Until the card has done with what passed through it.
  void wait_for_piece(size_t number);
  // The next piece of `bytes` at `device`, the first after all that was queued: there on return, and the one that
  // follows on its way.
  void read_piece(size_t number, const void* device, size_t bytes);
  // Queues the copy of a piece to its place behind `device`.
  void write_piece(size_t number, void* device, size_t bytes);

  // As Recording (launch.h), by number.
  bool begin_recording();
  bool end_recording(size_t number);
  void replay(size_t number);
  void drop_recording(size_t number) noexcept;

  Stream side_stream();
  void mark_side_stream();
  bool side_stream_passed();

  Context context() const { return context_.get(); }
  uint32_t multiprocessors() const { return multiprocessors_; }

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

  void require_answers() const;
  void start_context();
  Handle<Stream> create_stream();
  Handle<Event> create_event();
  Pinned pin();
  template <typename... Arguments, typename... Given>
  void give_back(const Call<Arguments...>& call, Given... given) noexcept;
  template <typename T>
  auto giving_back_by(const Call<T>& call);
  void load(std::span<const std::byte> image);
  Kernel* find(const std::string& name);
  void queued();
  void set_mark();
  bool passed(const Handle<Event>& event) const;
  void wait_for(const Handle<Event>& event);
  void wait_for_marks();
  void start_reading(size_t number, const void* device, size_t bytes);
  bool answers() noexcept;

  const Driver driver_;
  const std::string bus_id_;
  const Ordinal ordinal_;
  const Code& code_;
  const std::chrono::milliseconds timeout_;
  KeptFailure failure_;  // outlives what gives itself back
  bool hangs_ = false;
  bool has_failed_ = false;  // as was found when something was to be given back
  uint32_t multiprocessors_ = 0;
  Handle<Context> context_;
  Handle<Stream> stream_, side_stream_;
  Handle<Event> newest_mark_, older_mark_;  // in the queue; the older is waited for before the next is set
  unsigned unmarked_ = 0;                   // launches and copies behind the newest
  bool recording_ = false;                  // what is given is kept, and not in the queue
  std::map<size_t, Handle<GraphExec>> recordings_;
  Handle<Event> side_mark_;
  Pinned pinned_[2];
  std::vector<Handle<Module>> modules_;
  std::map<std::string, Kernel> kernels_;
};

}  // namespace kernels::cuda
