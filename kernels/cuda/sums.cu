// Row sums of long vectors: a warp per segment of 4,096 elements, then one warp adds the segments of a vector upward.
#include "cuda/reduce.cuh"
#include "cuda/sums_args.h"
#include "cuda/tensors.cuh"

namespace kernels::cuda {

// Blocks of (32, warps) threads.
template <class F>
__device__ inline void sum_segments(const SegmentSumsArgs& args, F f) {
  const uint32_t segment = blockIdx.x * blockDim.y + threadIdx.y;
  if (segment >= args.bounds[args.tensor_count].segment) return;
  const uint32_t t =
      tensor_at(segment, args.tensor_count, [&](uint32_t other) { return args.bounds[other + 1].segment; });
  const uint64_t first = args.bounds[t].element + uint64_t{segment - args.bounds[t].segment} * segment_elements;
  const uint64_t rest = args.bounds[t + 1].element - first;
  const float sum = row_sum(rest < segment_elements ? static_cast<uint32_t>(rest) : segment_elements,
                            [&](uint32_t i) { return f(args.x[first + i]); });
  if (lane() == 0) args.partial[segment] = sum;
}

extern "C" __global__ void segment_sums(const SegmentSumsArgs args) {
  sum_segments(args, [](float x) { return x; });
}

extern "C" __global__ void segment_sums_of_squares(const SegmentSumsArgs args) {
  sum_segments(args, [](float x) { return x * x; });
}

// One warp for each tensor: its lanes fetch 32 partial sums at once, which are then added one after the other.
extern "C" __global__ void add_segments(const SegmentSumsArgs args) {
  const uint32_t t = blockIdx.x, end = args.bounds[t + 1].segment;
  float sum = 0.0f;
  for (uint32_t first = args.bounds[t].segment; first < end; first += 32) {
    const float mine = first + lane() < end ? args.partial[first + lane()] : 0.0f;
    for (int i = 0; i < 32; ++i) sum = sum + __shfl_sync(all_lanes, mine, i);
  }
  if (lane() == 0) args.sums[t] = sum;
}

}  // namespace kernels::cuda
