// The threads of a block: who runs, who waits for whom.
#pragma once

#include <cstddef>

#include "cuda_host/launch.h"
#include "registry.h"

namespace simt {

constexpr size_t maximum_threads = 1024;                     // of a block
constexpr size_t maximum_shared_bytes = 227 * size_t{1024};  // dynamic, compute capability 9.0 and 10.0

// Runs every block of a launch whose limits have been checked. Not thread-safe.
void run_grid(const kernels::cuda::Launch& launch, const Kernel& kernel, bool downward);

}  // namespace simt
