// The codecs int4 and int8, docs/numerics.md section 7: a warp for each block of 64 elements, of which a lane has one
// in either half. The maximum of magnitudes is one of integers, so any order of lanes gives it.
#include "cuda/elementary.cuh"
#include "cuda/encode_args.h"
#include "cuda/reduce.cuh"

namespace kernels::cuda {

// put(i, q): the digit of element i; all lanes call it, also for elements behind the last one, whose digit is 0.
template <class Range, class Put>
__device__ inline void encode_block(const EncodeArgs& args, Put put) {
  constexpr float largest = Range::largest, largest_scale = Range::largest_scale;
  const uint64_t block = uint64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  const uint64_t first = block * math::codec_block + lane(), second = first + warp_lanes;
  if (block * math::codec_block >= args.count) return;
  const float x0 = first < args.count ? args.x[first] : 0.0f;
  const float x1 = second < args.count ? args.x[second] : 0.0f;
  const float amax = __uint_as_float(warp_maximum(max(magnitude_bits(x0), magnitude_bits(x1))));
  const bool is_zero = amax < math::codec_smallest_amax;
  const float inverse = is_zero ? 0.0f : largest / amax;
  put(first, __float2int_rn(x0 * inverse));
  put(second, __float2int_rn(x1 * inverse));
  if (lane() != 0) return;
  const float scale = amax / largest;
  args.scales[block] = is_zero ? 0.0f : scale > largest_scale ? largest_scale : scale;
}

extern "C" __global__ void encode_int8(const EncodeArgs args) {
  encode_block<math::Int8Range>(args, [&](uint64_t i, int32_t q) {
    if (i < args.count) args.digits[i] = static_cast<uint8_t>(q);
  });
}

// Two neighbours share a byte.
extern "C" __global__ void encode_int4(const EncodeArgs args) {
  encode_block<math::Int4Range>(args, [&](uint64_t i, int32_t q) {
    const int32_t next = __shfl_down_sync(all_lanes, q, 1);
    if (i % 2 == 0 && i < args.count) args.digits[i / 2] = static_cast<uint8_t>((q & 15) | (next & 15) << 4);
  });
}

}  // namespace kernels::cuda
