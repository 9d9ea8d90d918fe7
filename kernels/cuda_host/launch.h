// What the host side of the CUDA kernels needs of a device: the driver, or the executor of tests/simt/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace kernels::cuda {

constexpr size_t maximum_args_bytes = 4096;  // kernel parameters of CUDA 11 and of Pascal

// One kernel launch. `args` points to the kernel's one parameter, a struct of kernels/cuda/*_args.h, which is copied by
// launch(). The pointers in it are device pointers.
struct Launch {
  const char* kernel = nullptr;  // the entry point's name
  uint32_t grid[3] = {1, 1, 1};
  uint32_t block[3] = {1, 1, 1};
  uint32_t shared_bytes = 0;  // dynamic shared memory
  const void* args = nullptr;
  size_t args_bytes = 0;
};

// Launches, copies and zeros within a device that are kept, to be queued again as one: a CUDA graph. The device
// outlives it. Functions throw as those of the Launcher.
class Recording {
 public:
  virtual ~Recording() = default;

  // From begin() to end() the device keeps what it is given instead of queueing it; nothing may wait for it meanwhile.
  // False where it cannot be kept: then all of it has to be given anew. It can once at most.
  virtual bool begin() = 0;
  virtual bool end() = 0;

  // Queues what was kept.
  virtual void replay() = 0;
};

// One device. Used by one thread at a time. Every function throws std::runtime_error where the device fails, those that
// only queue something perhaps not until the next that waits; the message names the device and the call.
class Launcher {
 public:
  virtual ~Launcher() = default;

  // Whether the device's code has a kernel of this name.
  virtual bool has(const char* kernel) = 0;

  virtual uint32_t multiprocessors() const = 0;  // at least one

  // Queues a launch. Launches run in the order given, each after the one before has ended.
  virtual void launch(const Launch& launch) = 0;

  // Device memory, aligned to 256 bytes, of any content; freed by free(), which accepts null.
  virtual void* allocate(size_t bytes) = 0;
  virtual void free(void* device) noexcept = 0;

  // Copies between host and device return when they and all that was queued before have ended. The others are queued.
  virtual void read(void* host, const void* device, size_t bytes) = 0;
  virtual void write(void* device, const void* host, size_t bytes) = 0;
  virtual void copy(void* to, const void* from, size_t bytes) = 0;
  virtual void zero(void* device, size_t bytes) = 0;

  // Null where the device does not record.
  virtual std::unique_ptr<Recording> make_recording() { return nullptr; }

  // Bytes of device memory that nobody has.
  virtual size_t free_bytes() = 0;
};

}  // namespace kernels::cuda
