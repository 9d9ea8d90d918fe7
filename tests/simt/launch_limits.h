// What no device takes.
#pragma once

#include <cstddef>

#include "cuda_host/launch.h"

namespace simt {

constexpr size_t maximum_threads = 1024;                     // of a block
constexpr size_t maximum_shared_bytes = 227 * size_t{1024};  // dynamic, compute capability 9.0 and 10.0

// The limits of every device from compute capability 6.0 on; of shared memory, of the largest. Throws
// std::invalid_argument, also where the arguments are not the kernel's `args_bytes`.
void check_limits(const kernels::cuda::Launch& launch, size_t args_bytes);

}  // namespace simt
