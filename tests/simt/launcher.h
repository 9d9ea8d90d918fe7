// Runs the kernels of kernels/cuda/ on the CPU, from the same sources: every CUDA thread is a fibre, blocks run one
// after the other. device.h says what it finds. tests/ptx/launcher.cpp is the same class for the compiled kernels.
#pragma once

#include <cstddef>
#include <stdexcept>

#include "cuda_host/launch.h"

namespace simt {

// What a kernel did wrong; the kernel has been stopped at that point.
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// In which order blocks, warps and lanes run as far as nothing else orders them. A kernel without races gives the same
// bits in both.
enum class Order { upward, downward };

// Device memory is host memory. launch() throws Failure for what device.h lists, std::invalid_argument for a launch
// that no device takes, and else returns when the kernel has ended. Launches of all SimtLaunchers in the process
// exclude each other, since they share the storage of __shared__ variables.
class SimtLauncher : public kernels::cuda::Launcher {
 public:
  explicit SimtLauncher(Order order = Order::upward, uint32_t multiprocessors = 2)
      : order_(order), multiprocessors_(multiprocessors) {}

  bool has(const char* kernel) override;
  uint32_t multiprocessors() const override { return multiprocessors_; }  // it only says so
  void launch(const kernels::cuda::Launch& launch) override;
  void* allocate(size_t bytes) override;  // filled with NaN
  void free(void* device) noexcept override;
  void read(void* host, const void* device, size_t bytes) override;
  void write(void* device, const void* host, size_t bytes) override;
  void copy(void* to, const void* from, size_t bytes) override;
  void zero(void* device, size_t bytes) override;
  size_t free_bytes() override { return SIZE_MAX; }

 private:
  Order order_;
  uint32_t multiprocessors_;
};

}  // namespace simt
