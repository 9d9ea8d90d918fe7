// GELU and SwiGLU: one thread per element of the result of the forward pass.
#include "cuda/activations_args.h"
#include "cuda/elementary.cuh"
#include "cuda/grid.cuh"

namespace kernels::cuda {

extern "C" __global__ void gelu_forward(const GeluForwardArgs args) {
  for (uint64_t i = grid_index(); i < args.count; i += grid_size()) {
    const float x = args.x[i];
    args.y[i] = (0.5f * x) * (1.0f + gelu_tanh(x));
  }
}

extern "C" __global__ void gelu_backward(const GeluBackwardArgs args) {
  for (uint64_t i = grid_index(); i < args.count; i += grid_size()) {
    const float x = args.x[i], t = gelu_tanh(x);
    const float h = 0.5f * x;
    const float q = __fmaf_rn(x * x, 0.134145f, 1.0f) * 0.7978845608028654f;
    const float u = __fmaf_rn(-t, t, 1.0f);
    args.dx[i] = args.dy[i] * __fmaf_rn(h * u, q, __fmaf_rn(0.5f, t, 0.5f));
  }
}

extern "C" __global__ void swiglu_forward(const SwigluForwardArgs args) {
  for_each_row_and_column(args.rows, args.inner, [&](uint64_t row, uint32_t i) {
    const float* gate_up = args.gate_up + 2 * row * args.inner;
    const float x = gate_up[i], up = gate_up[args.inner + i];
    args.y[row * args.inner + i] = (x * sigmoid(x)) * up;
  });
}

extern "C" __global__ void swiglu_backward(const SwigluBackwardArgs args) {
  for_each_row_and_column(args.rows, args.inner, [&](uint64_t row, uint32_t i) {
    const uint64_t gate = 2 * row * args.inner + i, up = gate + args.inner;
    const float x = args.gate_up[gate], s = sigmoid(x), dy = args.dy[row * args.inner + i];
    const float dgate = (dy * args.gate_up[up]) * (s * __fmaf_rn(x, 1.0f - s, 1.0f));
    args.dgate_up[gate] = dgate;
    args.dgate_up[up] = dy * (x * s);
  });
}

}  // namespace kernels::cuda
