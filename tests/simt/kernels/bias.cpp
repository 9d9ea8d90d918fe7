#include "device.h"
// After it, since it defines the device's words.
#include "cuda/bias.cu"

SIMT_KERNEL(add_block_sums);
SIMT_KERNEL(bias_backward);
SIMT_KERNEL(bias_backward_fp16);
SIMT_KERNEL(bias_backward_bf16);
