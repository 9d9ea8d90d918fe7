// The rotation of LLaMA's queries and keys: one thread per pair.
#include "cuda/grid.cuh"
#include "cuda/rope_args.h"

namespace kernels::cuda {

extern "C" __global__ void rope(const RopeArgs args) {
  const uint32_t half = args.head_size / 2;
  for_each_row_and_column(args.tokens, args.heads * half, [&](uint64_t token, uint32_t pair) {
    const uint32_t head = pair / half, j = pair % half;
    float* x = args.x + token * args.row + uint64_t{head} * args.head_size + j;
    const uint64_t angle = token % args.context * half + j;
    const float c = args.cos[angle], sine = args.sin[angle], s = args.back ? -sine : sine;
    const float a = x[0], b = x[half];
    x[0] = __fmaf_rn(a, c, -(b * s));
    x[half] = __fmaf_rn(b, c, a * s);
  });
}

}  // namespace kernels::cuda
