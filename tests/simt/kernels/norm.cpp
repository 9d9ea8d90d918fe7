#include "device.h"
// After it, since it defines the device's words.
#include "cuda/norm.cu"

SIMT_KERNEL(layer_norm_forward);
SIMT_KERNEL(layer_norm_backward_gains);
SIMT_KERNEL(layer_norm_backward_rows);
SIMT_KERNEL(rms_norm_forward);
SIMT_KERNEL(rms_norm_backward_gains);
SIMT_KERNEL(rms_norm_backward_rows);
SIMT_KERNEL(layer_norm_forward_fp16);
SIMT_KERNEL(layer_norm_backward_gains_fp16);
SIMT_KERNEL(layer_norm_backward_rows_fp16);
SIMT_KERNEL(rms_norm_forward_fp16);
SIMT_KERNEL(rms_norm_backward_gains_fp16);
SIMT_KERNEL(rms_norm_backward_rows_fp16);
SIMT_KERNEL(layer_norm_forward_bf16);
SIMT_KERNEL(layer_norm_backward_gains_bf16);
SIMT_KERNEL(layer_norm_backward_rows_bf16);
SIMT_KERNEL(rms_norm_forward_bf16);
SIMT_KERNEL(rms_norm_backward_gains_bf16);
SIMT_KERNEL(rms_norm_backward_rows_bf16);
