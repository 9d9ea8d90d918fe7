// Cross-entropy (docs/numerics.md section 5), a block for each row; the gradient takes the logits' place, and the
// exponentials are computed twice instead of being stored.
#include "cuda/cross_entropy_args.h"
#include "cuda/elementary.cuh"
#include "cuda/grid.cuh"
#include "cuda/numbers.cuh"
#include "cuda/reduce.cuh"

namespace kernels::cuda {
namespace {

constexpr uint32_t warps = row_threads / warp_lanes;

template <class Numbers>
__device__ void row_of_logits(const CrossEntropyArgs& args, float (&of_warps)[warps]) {
  const auto x = Numbers::out(args.logits) + uint64_t{blockIdx.x} * args.row;
  const uint32_t count = args.vocabulary, warp = threadIdx.x / warp_lanes, target = args.targets[blockIdx.x];
  const float target_logit = x[target];
  const uint32_t fours = args.aligned ? count / 4 : 0, left_over = 4 * fours + threadIdx.x;
  const auto four = [&](uint32_t number) {
    return Numbers::load(Numbers::in(args.logits) + uint64_t{blockIdx.x} * args.row + 4 * number, 4, true);
  };

  float m = -infinity();
  for_each_read<4>(threadIdx.x, fours, row_threads, four, [&](uint32_t, const Vector4& logits) {
#pragma unroll
    for (uint32_t e = 0; e < 4; ++e) m = larger(logits.x[e], m);
  });
  for (uint32_t v = left_over; v < count; v += row_threads) m = larger(x[v], m);
  for (int lanes = 16; lanes >= 1; lanes /= 2) m = larger(__shfl_xor_sync(all_lanes, m, lanes), m);
  if (lane() == 0) of_warps[warp] = m;
  __syncthreads();
  for (uint32_t w = 0; w < warps; ++w) m = larger(of_warps[w], m);
  __syncthreads();

  // Each warp sums a segment, then all add the segments upward.
  float sum = 0.0f;
  for (uint32_t first = 0; first < count; first += warps * segment_elements) {
    const uint32_t begin = first + warp * segment_elements;
    const uint32_t length = begin < count ? min(segment_elements, count - begin) : 0;
    const float of_segment = row_sum(length, [&](uint32_t i) { return exp(x[begin + i] - m); });
    if (lane() == 0) of_warps[warp] = of_segment;
    __syncthreads();
    for (uint32_t w = 0; w < warps; ++w) sum = sum + of_warps[w];  // beyond the row: zeros
    __syncthreads();
  }

  if (threadIdx.x == 0) args.losses[blockIdx.x] = log(sum) + (m - target_logit);
  if (args.scale_gradient == 0.0f) return;
  const float inverse = 1.0f / sum;
  const auto gradient = [&](uint32_t v, float logit) {
    return (exp(logit - m) * inverse - (v == target ? 1.0f : 0.0f)) * args.scale_gradient;
  };
  for_each_read<4>(threadIdx.x, fours, row_threads, four, [&](uint32_t number, Vector4 y) {
#pragma unroll
    for (uint32_t e = 0; e < 4; ++e) y.x[e] = gradient(4 * number + e, y.x[e]);
    Numbers::store(x + 4 * number, y, 4, true);
  });
  for (uint32_t v = left_over; v < count; v += row_threads) x[v] = gradient(v, x[v]);
}

}  // namespace

#define CROSS_ENTROPY(suffix, Numbers)                                                                           \
  extern "C" __global__ __launch_bounds__(row_threads) void cross_entropy##suffix(const CrossEntropyArgs args) { \
    static __shared__ float of_warps[warps];                                                                     \
    row_of_logits<Numbers>(args, of_warps);                                                                      \
  }
#define CROSS_ENTROPY_OF_HALVES(suffix, Half) CROSS_ENTROPY(suffix, HalvesOf<Half>)

CROSS_ENTROPY(, Floats)
FOR_HALVES(CROSS_ENTROPY_OF_HALVES)

}  // namespace kernels::cuda
