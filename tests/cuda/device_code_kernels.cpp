// Functions of the device's headers by themselves.
#include "device.h"
// After it, since they use the device's words.
#include "cuda/elementary.cuh"
#include "cuda/grid.cuh"
#include "cuda/tile.cuh"
#include "device_code_args.h"

namespace kernels::cuda {

extern "C" __global__ void test_elementary(const TestElementaryArgs args) {
  for (uint64_t i = grid_index(); i < args.count; i += grid_size()) {
    args.exps[i] = exp(args.x[i]);
    args.tanhs[i] = tanh(args.x[i]);
    args.logs[i] = log(args.x[i]);
  }
}

template <uint32_t across>
__device__ void put_place(const TestPlacesArgs& args) {
  const ThreadPlace at = thread_place<across>();
  args.rows[threadIdx.x] = at.row, args.columns[threadIdx.x] = at.column;
}

extern "C" __global__ void test_places_8(const TestPlacesArgs args) { put_place<8>(args); }
extern "C" __global__ void test_places_16(const TestPlacesArgs args) { put_place<16>(args); }

}  // namespace kernels::cuda

SIMT_KERNEL(test_elementary);
SIMT_KERNEL(test_places_8);
SIMT_KERNEL(test_places_16);
