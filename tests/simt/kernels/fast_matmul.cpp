#include "device.h"
// After it, since it defines the device's words.
#include "cuda/fast_matmul.cu"

SIMT_KERNEL(fast_matmul_64_tt_fp16);
SIMT_KERNEL(fast_matmul_64_tl_fp16);
SIMT_KERNEL(fast_matmul_64_lt_fp16);
SIMT_KERNEL(fast_matmul_64_ll_fp16);
SIMT_KERNEL(fast_matmul_64_tt_bf16);
SIMT_KERNEL(fast_matmul_64_tl_bf16);
SIMT_KERNEL(fast_matmul_64_lt_bf16);
SIMT_KERNEL(fast_matmul_64_ll_bf16);
SIMT_KERNEL(fast_matmul_128_tt_fp16);
SIMT_KERNEL(fast_matmul_128_tl_fp16);
SIMT_KERNEL(fast_matmul_128_lt_fp16);
SIMT_KERNEL(fast_matmul_128_ll_fp16);
SIMT_KERNEL(fast_matmul_128_tt_bf16);
SIMT_KERNEL(fast_matmul_128_tl_bf16);
SIMT_KERNEL(fast_matmul_128_lt_bf16);
SIMT_KERNEL(fast_matmul_128_ll_bf16);
