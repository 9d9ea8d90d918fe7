// Layer norm and RMS norm: a warp per row, which forms row sums as docs/numerics.md numbers their lanes; a block of
// run_warps warps per 32 channels for the gradients of gains and biases. y and dy are of Numbers.
#include "cuda/norm_args.h"
#include "cuda/numbers.cuh"
#include "cuda/reduce.cuh"

namespace kernels::cuda {
namespace {

// The row of the calling warp: blocks of (32, warps) threads along x.
__device__ inline uint64_t warp_row() { return uint64_t{blockIdx.x} * blockDim.y + threadIdx.y; }

__device__ inline float inverse_root(float mean_square, float epsilon) {
  return 1.0f / __fsqrt_rn(mean_square + epsilon);
}

template <class Numbers>
__device__ void forward(const LayerNormForwardArgs& args) {
  const uint64_t row = warp_row();
  if (row >= args.rows) return;
  const float* x = args.x + row * args.channels;
  const auto y = Numbers::out(args.y) + row * args.channels;
  const float count = static_cast<float>(args.channels);
  const float mean = row_sum(args.channels, [&](uint32_t i) { return x[i]; }) / count;
  const float variance = row_sum(args.channels,
                                 [&](uint32_t i) {
                                   const float d = x[i] - mean;
                                   return d * d;
                                 }) /
                         count;
  const float rstd = inverse_root(variance, args.epsilon);
  for (uint32_t i = lane(); i < args.channels; i += 32)
    y[i] = __fmaf_rn((x[i] - mean) * rstd, args.weight[i], args.bias[i]);
  if (lane() == 0) {
    args.mean[row] = mean;
    args.rstd[row] = rstd;
  }
}

template <class Numbers>
__device__ void backward_gains(const LayerNormBackwardArgs& args, RunPartials<2>& partial) {
  const auto dys = Numbers::in(args.dy);
  add_run_sums<2>(args.gains, partial, [&](uint32_t row, uint32_t i, float(&acc)[2]) {
    const uint64_t at = uint64_t{row} * args.channels + i;
    const float dy = dys[at];
    acc[0] = acc[0] + dy * ((args.x[at] - args.mean[row]) * args.rstd[row]);
    acc[1] = acc[1] + dy;
  });
}

// Element `at` of dx, before the residual.
template <class Numbers, class Args>
__device__ void put_dx(const Args& args, uint64_t at, float dx) {
  if (args.dresidual) dx = dx + args.dresidual[at];
  args.dx[at] = dx;
  if (Numbers::are_halves) Numbers::out(args.dx_halves)[at] = dx;
}

template <class Numbers>
__device__ void backward_rows(const LayerNormBackwardArgs& args) {
  const uint64_t row = warp_row();
  if (row >= args.rows) return;
  const uint64_t first = row * args.channels;
  const auto dy = Numbers::in(args.dy) + first;
  const float count = static_cast<float>(args.channels);
  const float mean = args.mean[row], rstd = args.rstd[row];
  const auto dn = [&](uint32_t i) { return dy[i] * args.weight[i]; };
  const auto normal = [&](uint32_t i) { return (args.x[first + i] - mean) * rstd; };
  const float a = row_sum(args.channels, dn) / count;
  const float b = row_sum(args.channels, [&](uint32_t i) { return dn(i) * normal(i); }) / count;
  for (uint32_t i = lane(); i < args.channels; i += 32)
    put_dx<Numbers>(args, first + i, __fmaf_rn(-normal(i), b, dn(i) - a) * rstd);
}

template <class Numbers>
__device__ void forward(const RmsNormForwardArgs& args) {
  const uint64_t row = warp_row();
  if (row >= args.rows) return;
  const float* x = args.x + row * args.channels;
  const auto y = Numbers::out(args.y) + row * args.channels;
  const float square = row_sum(args.channels, [&](uint32_t i) { return x[i] * x[i]; });
  const float rstd = inverse_root(square / static_cast<float>(args.channels), args.epsilon);
  for (uint32_t i = lane(); i < args.channels; i += 32) y[i] = (x[i] * rstd) * args.weight[i];
  if (lane() == 0) args.rstd[row] = rstd;
}

template <class Numbers>
__device__ void backward_gains(const RmsNormBackwardArgs& args, RunPartials<1>& partial) {
  const auto dy = Numbers::in(args.dy);
  add_run_sums<1>(args.gains, partial, [&](uint32_t row, uint32_t i, float(&acc)[1]) {
    const uint64_t at = uint64_t{row} * args.channels + i;
    acc[0] = acc[0] + dy[at] * (args.x[at] * args.rstd[row]);
  });
}

template <class Numbers>
__device__ void backward_rows(const RmsNormBackwardArgs& args) {
  const uint64_t row = warp_row();
  if (row >= args.rows) return;
  const uint64_t first = row * args.channels;
  const auto dy = Numbers::in(args.dy) + first;
  const float rstd = args.rstd[row];
  const auto dn = [&](uint32_t i) { return dy[i] * args.weight[i]; };
  const auto normal = [&](uint32_t i) { return args.x[first + i] * rstd; };
  const float sum = row_sum(args.channels, [&](uint32_t i) { return dn(i) * normal(i); });
  const float b = sum / static_cast<float>(args.channels);
  for (uint32_t i = lane(); i < args.channels; i += 32)
    put_dx<Numbers>(args, first + i, __fmaf_rn(-normal(i), b, dn(i)) * rstd);
}

}  // namespace

#define NORM(norm, Norm, sums, suffix, Numbers)                                                               \
  extern "C" __global__ void norm##_forward##suffix(const Norm##ForwardArgs args) { forward<Numbers>(args); } \
  extern "C" __global__ void norm##_backward_gains##suffix(const Norm##BackwardArgs args) {                   \
    static __shared__ RunPartials<sums> partial;                                                              \
    backward_gains<Numbers>(args, partial);                                                                   \
  }                                                                                                           \
  extern "C" __global__ void norm##_backward_rows##suffix(const Norm##BackwardArgs args) {                    \
    backward_rows<Numbers>(args);                                                                             \
  }
#define NORMS(suffix, Numbers)                    \
  NORM(layer_norm, LayerNorm, 2, suffix, Numbers) \
  NORM(rms_norm, RmsNorm, 1, suffix, Numbers)
#define NORMS_OF_HALVES(suffix, Half) NORMS(suffix, HalvesOf<Half>)

NORMS(, Floats)
FOR_HALVES(NORMS_OF_HALVES)

}  // namespace kernels::cuda
