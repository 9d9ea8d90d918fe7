// AdamW and Nesterov, docs/numerics.md section 6.
#include "cuda/grid.cuh"
#include "cuda/optimisers_args.h"
#include "cuda/tensors.cuh"

namespace kernels::cuda {

// A block's elements are neighbours, so that one search finds a tensor that is near to all of theirs.
extern "C" __global__ void adamw(const AdamWArgs args) {
  const uint64_t first = args.begin + uint64_t{blockIdx.x} * adamw_elements;
  const uint64_t end = args.tensors[args.tensor_count - 1].end;
  uint32_t tensor = tensor_at(first, args.tensor_count, [&](uint32_t t) { return args.tensors[t].end; });
  for (uint64_t i = first + threadIdx.x; i < first + adamw_elements && i < end; i += adamw_threads) {
    while (i >= args.tensors[tensor].end) ++tensor;
    const float g = args.g[i];
    const float m = __fmaf_rn(args.beta1, args.m[i], args.one_minus_beta1 * g);
    const float v = __fmaf_rn(args.beta2, args.v[i], (args.one_minus_beta2 * g) * g);
    const float w = args.w[i] * args.tensors[tensor].decay;  // w * 1 is w
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
