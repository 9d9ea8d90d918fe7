// AdamW and Nesterov, docs/numerics.md section 6: one thread per element.
#include "cuda/grid.cuh"
#include "cuda/optimisers_args.h"

namespace kernels::cuda {

extern "C" __global__ void adamw(const AdamWArgs args) {
  for (uint64_t i = grid_index(); i < args.count; i += grid_size()) {
    const float g = args.g[i];
    const float m = __fmaf_rn(args.beta1, args.m[i], args.one_minus_beta1 * g);
    const float v = __fmaf_rn(args.beta2, args.v[i], (args.one_minus_beta2 * g) * g);
    const float w = args.w[i] * args.decay;  // w * 1 is w
    const float step = m / __fmaf_rn(__fsqrt_rn(v), args.inv_sqrt_bc2, args.epsilon);
    args.m[i] = m;
    args.v[i] = v;
    args.w[i] = __fmaf_rn(-args.step_size, step, w);
  }
}

extern "C" __global__ void nesterov(const NesterovArgs args) {
  for (uint64_t i = grid_index(); i < args.count; i += grid_size()) {
    const float g = args.g[i];
    const float m = __fmaf_rn(args.momentum, args.m[i], g);
    args.m[i] = m;
    args.w[i] = __fmaf_rn(-args.lr, __fmaf_rn(args.momentum, m, g), args.w[i]);
  }
}

}  // namespace kernels::cuda
