#include "device.h"
// After it, since it defines the device's words.
#include "cuda/int8_matmul.cu"

SIMT_KERNEL(int8_matmul_64_tt_fp32);
SIMT_KERNEL(int8_matmul_64_tl_fp32);
SIMT_KERNEL(int8_matmul_64_lt_fp32);
SIMT_KERNEL(int8_matmul_64_ll_fp32);
SIMT_KERNEL(int8_matmul_64_blocks_fp32);
SIMT_KERNEL(int8_matmul_64_tt_dp4a);
SIMT_KERNEL(int8_matmul_64_tl_dp4a);
SIMT_KERNEL(int8_matmul_64_lt_dp4a);
SIMT_KERNEL(int8_matmul_64_ll_dp4a);
SIMT_KERNEL(int8_matmul_64_blocks_dp4a);
SIMT_KERNEL(int8_matmul_64_tt_m8n8k16);
SIMT_KERNEL(int8_matmul_64_tl_m8n8k16);
SIMT_KERNEL(int8_matmul_64_lt_m8n8k16);
SIMT_KERNEL(int8_matmul_64_ll_m8n8k16);
SIMT_KERNEL(int8_matmul_64_blocks_m8n8k16);
SIMT_KERNEL(int8_matmul_128_tt_m8n8k16);
SIMT_KERNEL(int8_matmul_128_tl_m8n8k16);
SIMT_KERNEL(int8_matmul_128_lt_m8n8k16);
SIMT_KERNEL(int8_matmul_128_ll_m8n8k16);
SIMT_KERNEL(int8_matmul_128_blocks_m8n8k16);
SIMT_KERNEL(int8_matmul_64_tt_m16n8k32);
SIMT_KERNEL(int8_matmul_64_tl_m16n8k32);
SIMT_KERNEL(int8_matmul_64_lt_m16n8k32);
SIMT_KERNEL(int8_matmul_64_ll_m16n8k32);
SIMT_KERNEL(int8_matmul_64_blocks_m16n8k32);
SIMT_KERNEL(int8_matmul_128_tt_m16n8k32);
SIMT_KERNEL(int8_matmul_128_tl_m16n8k32);
SIMT_KERNEL(int8_matmul_128_lt_m16n8k32);
SIMT_KERNEL(int8_matmul_128_ll_m16n8k32);
SIMT_KERNEL(int8_matmul_128_blocks_m16n8k32);
SIMT_KERNEL(int8_matmul_scales);
