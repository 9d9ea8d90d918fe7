#include "cuda_host/activation_launch.h"

#include "cuda/activations_args.h"
#include "cuda_host/half_precision.h"
#include "cuda_host/shape.h"

namespace kernels::cuda {

void launch_gelu_forward(const GeluForward& op, HalfPrecision half, Launcher& device) {
  if (op.count == 0) return;
  const GeluForwardArgs args{.count = op.count,
                             .x = op.x.first(),
                             .y = op.y.first(),
                             .aligned = aligned(op.x, 0) && aligned(op.y, 0),
                             .padding = 0};
  launch(device, variant("gelu_forward", op.x, half).c_str(), over_fours(op.count), args);
}

void launch_gelu_backward(const GeluBackward& op, HalfPrecision half, Launcher& device) {
  if (op.count == 0) return;
  const GeluBackwardArgs args{.count = op.count,
                              .x = op.x.first(),
                              .dy = op.dy.first(),
                              .dx = op.dx.first(),
                              .aligned = aligned(op.x, 0) && aligned(op.dy, 0) && aligned(op.dx, 0),
                              .padding = 0};
  launch(device, variant("gelu_backward", op.x, half).c_str(), over_fours(op.count), args);
}

void launch_swiglu_forward(const SwigluForward& op, HalfPrecision half, Launcher& device) {
  const SwigluForwardArgs args{.rows = narrow(op.rows),
                               .inner = narrow(op.inner),
                               .gate_up = op.gate_up.first(),
                               .y = op.y.first(),
                               .aligned = aligned(op.gate_up, op.inner) && aligned(op.y, op.inner),
                               .padding = 0};
  launch(device, variant("swiglu_forward", op.gate_up, half).c_str(), over_matrix(op.rows, ceil_div(op.inner, 4)),
         args);
}

void launch_swiglu_backward(const SwigluBackward& op, HalfPrecision half, Launcher& device) {
  const SwigluBackwardArgs args{
      .rows = narrow(op.rows),
      .inner = narrow(op.inner),
      .gate_up = op.gate_up.first(),
      .dy = op.dy.first(),
      .dgate_up = op.dgate_up.first(),
      .aligned = aligned(op.gate_up, op.inner) && aligned(op.dy, op.inner) && aligned(op.dgate_up, op.inner),
      .padding = 0};
  launch(device, variant("swiglu_backward", op.gate_up, half).c_str(), over_matrix(op.rows, ceil_div(op.inner, 4)),
         args);
}

}  // namespace kernels::cuda
