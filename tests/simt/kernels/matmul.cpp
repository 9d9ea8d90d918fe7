#include "device.h"
// After it, since it defines the device's words.
#include "cuda/matmul.cu"

SIMT_KERNEL(matmul_128_tt);
SIMT_KERNEL(matmul_128_tl);
SIMT_KERNEL(matmul_128_lt);
SIMT_KERNEL(matmul_128_ll);
SIMT_KERNEL(matmul_128_tt_long);
SIMT_KERNEL(matmul_128_tl_long);
SIMT_KERNEL(matmul_128_lt_long);
SIMT_KERNEL(matmul_128_ll_long);
SIMT_KERNEL(matmul_64_tt_long);
SIMT_KERNEL(matmul_64_tl_long);
SIMT_KERNEL(matmul_64_lt_long);
SIMT_KERNEL(matmul_64_ll_long);
SIMT_KERNEL(matmul_32_tt_long);
SIMT_KERNEL(matmul_32_tl_long);
SIMT_KERNEL(matmul_32_lt_long);
SIMT_KERNEL(matmul_32_ll_long);
