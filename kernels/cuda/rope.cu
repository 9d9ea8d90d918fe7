// The rotation of LLaMA's queries and keys: one thread per pair.
#include "cuda/grid.cuh"
#include "cuda/numbers.cuh"
#include "cuda/rope_args.h"

namespace kernels::cuda {
namespace {

template <class Numbers>
__device__ void rotate(const RopeArgs& args) {
  const uint32_t half = args.head_size / 2;
  for_each_row_and_column(args.tokens, args.heads * half, [&](uint64_t token, uint32_t pair) {
    const uint32_t head = pair / half, j = pair % half;
    const auto x = Numbers::out(args.x) + token * args.row + uint64_t{head} * args.head_size + j;
    const uint64_t angle = token % args.context * half + j;
    const float c = args.cos[angle], sine = args.sin[angle], s = args.back ? -sine : sine;
    const float a = x[0], b = x[half];
    x[0] = __fmaf_rn(a, c, -(b * s));
    x[half] = __fmaf_rn(b, c, a * s);
  });
}

}  // namespace

#define ROPE(suffix, Half) \
  extern "C" __global__ void rope##suffix(const RopeArgs args) { rotate<HalvesOf<Half>>(args); }

extern "C" __global__ void rope(const RopeArgs args) { rotate<Floats>(args); }
FOR_HALVES(ROPE)

}  // namespace kernels::cuda
