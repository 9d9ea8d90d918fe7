#include "device.h"
// After it, since it defines the device's words.
#include "cuda/optimisers.cu"

SIMT_KERNEL(adamw);
SIMT_KERNEL(nesterov);
