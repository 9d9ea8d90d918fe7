#include "device.h"
// After it, since it defines the device's words.
#include "cuda/round_to_halves.cu"

SIMT_KERNEL(round_to_halves_fp16);
SIMT_KERNEL(round_to_halves_bf16);
