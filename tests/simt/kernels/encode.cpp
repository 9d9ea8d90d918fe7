#include "device.h"
// After it, since it defines the device's words.
#include "cuda/encode.cu"

SIMT_KERNEL(encode_int4);
SIMT_KERNEL(encode_int8);
