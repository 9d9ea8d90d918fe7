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

}  // namespace kernels::cuda
