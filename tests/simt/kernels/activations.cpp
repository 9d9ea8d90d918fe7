#include "device.h"
// After it, since it defines the device's words.
#include "cuda/activations.cu"

SIMT_KERNEL(gelu_forward);
SIMT_KERNEL(gelu_backward);
SIMT_KERNEL(swiglu_forward);
SIMT_KERNEL(swiglu_backward);
SIMT_KERNEL(gelu_forward_fp16);
SIMT_KERNEL(gelu_backward_fp16);
SIMT_KERNEL(swiglu_forward_fp16);
SIMT_KERNEL(swiglu_backward_fp16);
SIMT_KERNEL(gelu_forward_bf16);
SIMT_KERNEL(gelu_backward_bf16);
SIMT_KERNEL(swiglu_forward_bf16);
SIMT_KERNEL(swiglu_backward_bf16);
