// The gradient of a bias.
#include "cuda/bias_args.h"
#include "cuda/reduce.cuh"

namespace kernels::cuda {

extern "C" __global__ void bias_backward(const BiasBackwardArgs args) {
  static __shared__ RunPartials<1> partial;
  add_run_sums<1>(args.rows, args.channels, partial, args.dbias, [&](uint32_t row, uint32_t i, float(&acc)[1]) {
    acc[0] = acc[0] + args.dy[uint64_t{row} * args.channels + i];
  });
}

}  // namespace kernels::cuda
