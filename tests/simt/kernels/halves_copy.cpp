#include "device.h"
// After it, since it defines the device's words.
#include "cuda/halves_copy.cu"

SIMT_KERNEL(halves_copy_fp16);
SIMT_KERNEL(halves_copy_bf16);
