#include "device.h"
// After it, since it defines the device's words.
#include "cuda/quantise.cu"

SIMT_KERNEL(quantise_rows);
SIMT_KERNEL(quantise_columns);
