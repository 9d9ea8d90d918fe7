// One card: the kernels of this program loaded, one queue of launches, memory, copies.
#pragma once

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

// Uses the card's primary context; a thread that waits for the card sleeps. A process has at most one Device for a card
// at a time. Every function throws CudaError, which names the card by its bus id; allocate() CudaOutOfMemory as well.
class Device final : public Launcher {
 public:
  // Loads `code`, see code_for(). `driver` and `code` outlive it.
  Device(const Driver& driver, const CudaCard& card, const Code& code);
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ~Device() override;

  bool has(const char* kernel) override;
  void launch(const Launch& launch) override;
  void* allocate(size_t bytes) override;
  void free(void* device) noexcept override;
  void read(void* host, const void* device, size_t bytes) override;
  void write(void* device, const void* host, size_t bytes) override;
  void copy(void* to, const void* from, size_t bytes) override;
  void zero(void* device, size_t bytes) override;
  size_t free_bytes() override;

  // Waits for all launches; a launch that failed on the card is an error here, or in the next copy.
  void synchronise();

 private:
  template <typename T>
  using Handle = std::unique_ptr<std::remove_pointer_t<T>, std::function<void(T)>>;
  struct Kernel {
    Function function = nullptr;
    uint32_t shared_bytes = 0;  // dynamic shared memory that it may have
  };

  void make_current();
  void start_context(int ordinal);
  void load(std::span<const std::byte> image);
  Kernel* find(const std::string& name);

  const Driver& driver_;
  const std::string bus_id_;
  const Code& code_;
  Handle<Context> context_;
  Handle<Stream> stream_;
  Handle<void*> pinned_;  // what copies pass through, a piece at a time
  std::vector<Handle<Module>> modules_;
  std::map<std::string, Kernel> kernels_;
};

}  // namespace kernels::cuda
