#include "device.h"
// After it, since it defines the device's words.
#include "cuda/int8_matmul.cu"

SIMT_KERNEL(int8_matmul_tt);
SIMT_KERNEL(int8_matmul_tt_fp32);
SIMT_KERNEL(int8_matmul_tl);
SIMT_KERNEL(int8_matmul_tl_fp32);
SIMT_KERNEL(int8_matmul_lt);
SIMT_KERNEL(int8_matmul_lt_fp32);
SIMT_KERNEL(int8_matmul_ll);
SIMT_KERNEL(int8_matmul_ll_fp32);
