#include "device.h"
// After it, since it defines the device's words.
#include "cuda/elementwise.cu"

SIMT_KERNEL(add);
SIMT_KERNEL(scale);
