// Row sums of long vectors: a warp per segment of 4,096 elements, then one warp adds the segments upward.
#include "cuda/reduce.cuh"
#include "cuda/sums_args.h"

namespace kernels::cuda {

// Blocks of (32, warps) threads.
template <class F>
__device__ inline void sum_segments(const SegmentSumsArgs& args, F f) {
  const uint64_t segment = uint64_t{blockIdx.x} * blockDim.y + threadIdx.y, first = segment * segment_elements;
  if (first >= args.count) return;
  const uint64_t rest = args.count - first;
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

// One warp: its lanes fetch 32 partial sums at once, which are then added one after the other.
extern "C" __global__ void add_segments(const AddSegmentsArgs args) {
  float sum = 0.0f;
  for (uint64_t first = 0; first < args.count; first += 32) {
    const float mine = first + lane() < args.count ? args.partial[first + lane()] : 0.0f;
    for (int i = 0; i < 32; ++i) sum = sum + __shfl_sync(all_lanes, mine, i);
  }
  if (lane() == 0) *args.sum = sum;
}

}  // namespace kernels::cuda
