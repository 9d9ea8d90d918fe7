// GELU and SwiGLU: a thread for four neighbours of the result of the forward pass.
#include "cuda/activations_args.h"
#include "cuda/elementary.cuh"
#include "cuda/grid.cuh"
#include "cuda/numbers.cuh"

namespace kernels::cuda {
namespace {

// f(x) of each of four.
template <class F>
__device__ Vector4 each(F f) {
  Vector4 y;
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i) y.x[i] = f(i);
  return y;
}

template <class Numbers>
__device__ void forward(const GeluForwardArgs& args) {
  const auto x = Numbers::in(args.x);
  const auto y = Numbers::out(args.y);
  const bool aligned = args.aligned != 0;
  for_each_four(args.count, [&](uint64_t first, uint32_t inside) {
    const Vector4 v = Numbers::load(x + first, inside, aligned);
    Numbers::store(y + first, each([&](uint32_t i) { return gelu(v.x[i]); }), inside, aligned);
  });
}

template <class Numbers>
__device__ void backward(const GeluBackwardArgs& args) {
  const auto x = Numbers::in(args.x), dy = Numbers::in(args.dy);
  const auto dx = Numbers::out(args.dx);
  const bool aligned = args.aligned != 0;
  for_each_four(args.count, [&](uint64_t first, uint32_t inside) {
    const Vector4 v = Numbers::load(x + first, inside, aligned), dv = Numbers::load(dy + first, inside, aligned);
    Numbers::store(dx + first, each([&](uint32_t i) { return dv.x[i] * gelu_slope(v.x[i]); }), inside, aligned);
  });
}

// Where a row of gate | up begins, and of y.
struct GateUp {
  uint64_t gate, up, y;
};
__device__ inline GateUp gate_up(uint64_t row, uint32_t inner, uint32_t first) {
  return {2 * row * inner + first, (2 * row + 1) * inner + first, row * inner + first};
}

template <class Numbers>
__device__ void forward(const SwigluForwardArgs& args) {
  const auto x = Numbers::in(args.gate_up);
  const auto y = Numbers::out(args.y);
  const bool aligned = args.aligned != 0;
  for_each_row_and_column(args.rows, (args.inner + 3) / 4, [&](uint64_t row, uint32_t group) {
    const GateUp at = gate_up(row, args.inner, 4 * group);
    const uint32_t inside = args.inner - 4 * group;
    const Vector4 gate = Numbers::load(x + at.gate, inside, aligned), up = Numbers::load(x + at.up, inside, aligned);
    Numbers::store(y + at.y, each([&](uint32_t i) { return (gate.x[i] * sigmoid(gate.x[i])) * up.x[i]; }), inside,
                   aligned);
  });
}

template <class Numbers>
__device__ void backward(const SwigluBackwardArgs& args) {
  const auto x = Numbers::in(args.gate_up), dy = Numbers::in(args.dy);
  const auto dx = Numbers::out(args.dgate_up);
  const bool aligned = args.aligned != 0;
  for_each_row_and_column(args.rows, (args.inner + 3) / 4, [&](uint64_t row, uint32_t group) {
    const GateUp at = gate_up(row, args.inner, 4 * group);
    const uint32_t inside = args.inner - 4 * group;
    const Vector4 gate = Numbers::load(x + at.gate, inside, aligned), up = Numbers::load(x + at.up, inside, aligned),
                  dv = Numbers::load(dy + at.y, inside, aligned);
    const Vector4 s = each([&](uint32_t i) { return sigmoid(gate.x[i]); });
    const auto dgate = [&](uint32_t i) {
      return (dv.x[i] * up.x[i]) * (s.x[i] * __fmaf_rn(gate.x[i], 1.0f - s.x[i], 1.0f));
    };
    Numbers::store(dx + at.gate, each(dgate), inside, aligned);
    Numbers::store(dx + at.up, each([&](uint32_t i) { return dv.x[i] * (gate.x[i] * s.x[i]); }), inside, aligned);
  });
}

}  // namespace

#define ACTIVATION(activation, Activation, suffix, Numbers)                                       \
  extern "C" __global__ void activation##_forward##suffix(const Activation##ForwardArgs args) {   \
    forward<Numbers>(args);                                                                       \
  }                                                                                               \
  extern "C" __global__ void activation##_backward##suffix(const Activation##BackwardArgs args) { \
    backward<Numbers>(args);                                                                      \
  }
#define ACTIVATIONS(suffix, Numbers)      \
  ACTIVATION(gelu, Gelu, suffix, Numbers) \
  ACTIVATION(swiglu, Swiglu, suffix, Numbers)
#define ACTIVATIONS_OF_HALVES(suffix, Half) ACTIVATIONS(suffix, HalvesOf<Half>)

ACTIVATIONS(, Floats)
FOR_HALVES(ACTIVATIONS_OF_HALVES)

}  // namespace kernels::cuda
