#include "device.h"
// After it, since it defines the device's words.
#include "cuda/elementwise.cu"

SIMT_KERNEL(add);
SIMT_KERNEL(scale);
SIMT_KERNEL(subtract);
SIMT_KERNEL(first_non_finite);
SIMT_KERNEL(set_index);
