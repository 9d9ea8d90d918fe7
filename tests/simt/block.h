// The threads of a block: who runs, who waits for whom.
#pragma once

#include "cuda_host/launch.h"
#include "launch_limits.h"
#include "registry.h"

namespace simt {

// Runs every block of a launch whose limits have been checked. Not thread-safe.
void run_grid(const kernels::cuda::Launch& launch, const Kernel& kernel, bool downward);

}  // namespace simt
