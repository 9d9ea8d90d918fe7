// The operations by the CUDA kernels on the SIMT executor.
#pragma once

#include "cuda_host/cuda_ops.h"
#include "launcher.h"

namespace kernels::test {

// Declared in this order, the launcher outlives the operations.
class SimtOps : private simt::SimtLauncher, public cuda::CudaOps {
 public:
  explicit SimtOps(simt::Order order, cuda::Int8Arithmetic int8 = cuda::Int8Arithmetic::m16n8k32,
                   HalfPrecision half = HalfPrecision::bf16, uint32_t multiprocessors = 2)
      : SimtLauncher(order, multiprocessors), CudaOps(static_cast<SimtLauncher&>(*this), int8, half) {}
};

}  // namespace kernels::test
