// Runs every block of a launch.
#pragma once

#include <vector>

#include "cuda_host/launch.h"
#include "program.h"
#include "warp.h"

namespace ptx {

// A kernel with what its launches need, which is kept from one to the next. Used by one thread at a time.
class LoadedKernel {
 public:
  explicit LoadedKernel(Kernel kernel) : kernel_(std::move(kernel)), args_(kernel_.args_bytes) {}
  LoadedKernel(const LoadedKernel&) = delete;
  LoadedKernel& operator=(const LoadedKernel&) = delete;

  // Throws std::invalid_argument for a launch for which the kernel was not compiled, and simt::Failure for a barrier or
  // an operation of a warp that not all of its threads come to, an address that is not aligned or lies outside the
  // block's shared memory or the arguments, and a thread that has not waited for its copies. Shared memory is filled
  // with NaN before each block, registers before the first launch. Blocks run one after the other, upward.
  void run(const kernels::cuda::Launch& launch);

 private:
  void run_block(const Place& place, size_t warps);

  const Kernel kernel_;
  std::vector<unsigned char> args_, shared_;
  std::vector<Warp> warps_;
};

}  // namespace ptx
