// The functions of elementary.cuh by themselves.
#include "device.h"
// After it, since they use the device's words.
#include "cuda/elementary.cuh"
#include "cuda/grid.cuh"
#include "elementary_args.h"

namespace kernels::cuda {

extern "C" __global__ void test_elementary(const TestElementaryArgs args) {
  for (uint64_t i = grid_index(); i < args.count; i += grid_size()) {
    args.exps[i] = exp(args.x[i]);
    args.tanhs[i] = tanh(args.x[i]);
    args.logs[i] = log(args.x[i]);
  }
}

}  // namespace kernels::cuda

SIMT_KERNEL(test_elementary);
