#include "device.h"
// After it, since it defines the device's words.
#include "cuda/norm.cu"

SIMT_KERNEL(layer_norm_forward);
SIMT_KERNEL(layer_norm_backward_gains);
SIMT_KERNEL(layer_norm_backward_rows);
SIMT_KERNEL(rms_norm_forward);
SIMT_KERNEL(rms_norm_backward_gains);
SIMT_KERNEL(rms_norm_backward_rows);
