#include "device.h"
// After it, since it defines the device's words.
#include "cuda/activations.cu"

SIMT_KERNEL(gelu_forward);
SIMT_KERNEL(gelu_backward);
SIMT_KERNEL(swiglu_forward);
SIMT_KERNEL(swiglu_backward);
