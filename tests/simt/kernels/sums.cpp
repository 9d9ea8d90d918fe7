#include "device.h"
// After it, since it defines the device's words.
#include "cuda/sums.cu"

SIMT_KERNEL(segment_sums);
SIMT_KERNEL(segment_sums_of_squares);
SIMT_KERNEL(add_segments);
