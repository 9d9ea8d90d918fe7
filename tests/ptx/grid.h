// Runs every block of a launch.
#pragma once

#include "cuda_host/launch.h"
#include "program.h"

namespace ptx {

// Throws std::invalid_argument for a launch for which the kernel was not compiled, and simt::Failure for a barrier or
// an operation of a warp that not all of its threads come to, an address that is not aligned or lies outside the
// block's shared memory or the arguments, and a thread that has not waited for its copies. Shared memory is filled with
// NaN before each block, registers before each launch. Blocks run one after the other, upward.
void run_grid(const Kernel& kernel, const kernels::cuda::Launch& launch);

}  // namespace ptx
