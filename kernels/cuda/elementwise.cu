// One thread per element, in a loop over the grid.
#include "cuda/elementwise_args.h"
#include "cuda/grid.cuh"

namespace kernels::cuda {

extern "C" __global__ void add(const AddArgs args) {
  for (uint64_t i = grid_index(); i < args.count; i += grid_size()) args.y[i] = args.y[i] + args.x[i];
}

extern "C" __global__ void scale(const ScaleArgs args) {
  for (uint64_t i = grid_index(); i < args.count; i += grid_size()) args.y[i] = args.y[i] * args.factor;
}

extern "C" __global__ void subtract(const SubtractArgs args) {
  for (uint64_t i = grid_index(); i < args.count; i += grid_size()) args.out[i] = args.a[i] - args.b[i];
}

// Each thread looks at elements upward, so its first is the only one that counts.
extern "C" __global__ void first_non_finite(const FirstNonFiniteArgs args) {
  for (uint64_t i = grid_index(); i < args.count; i += grid_size()) {
    if ((__float_as_uint(args.x[i]) & 0x7f800000u) != 0x7f800000u) continue;
    atomicMin(args.index, static_cast<unsigned long long>(i));
    return;
  }
}

extern "C" __global__ void set_index(const SetIndexArgs args) { *args.index = args.value; }

}  // namespace kernels::cuda
