#include "device.h"
// After it, since it defines the device's words.
#include "cuda/leaf_hashes.cu"

SIMT_KERNEL(leaf_hashes);
