#include "device.h"
// After it, since it defines the device's words.
#include "cuda/rope.cu"

SIMT_KERNEL(rope);
SIMT_KERNEL(rope_fp16);
SIMT_KERNEL(rope_bf16);
