#include "device.h"
// After it, since it defines the device's words.
#include "cuda/cross_entropy.cu"

SIMT_KERNEL(cross_entropy);
SIMT_KERNEL(cross_entropy_fp16);
SIMT_KERNEL(cross_entropy_bf16);
