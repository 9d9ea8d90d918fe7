#include "device.h"
// After it, since it defines the device's words.
#include "cuda/matmul.cu"

SIMT_KERNEL(matmul_128_tt);
SIMT_KERNEL(matmul_128_tl);
SIMT_KERNEL(matmul_128_lt);
SIMT_KERNEL(matmul_128_ll);
SIMT_KERNEL(matmul_64_tt);
SIMT_KERNEL(matmul_64_tl);
SIMT_KERNEL(matmul_64_lt);
SIMT_KERNEL(matmul_64_ll);
SIMT_KERNEL(matmul_32_tt);
SIMT_KERNEL(matmul_32_tl);
SIMT_KERNEL(matmul_32_lt);
SIMT_KERNEL(matmul_32_ll);
SIMT_KERNEL(matmul_add_chunks);
