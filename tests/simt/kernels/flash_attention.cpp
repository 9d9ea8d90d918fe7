#include "device.h"
// After it, since it defines the device's words.
#include "cuda/flash_attention.cu"

SIMT_KERNEL(flash_attention_forward_64_fp16);
SIMT_KERNEL(flash_attention_backward_queries_64_fp16);
SIMT_KERNEL(flash_attention_backward_keys_64_fp16);
SIMT_KERNEL(flash_attention_forward_128_fp16);
SIMT_KERNEL(flash_attention_backward_queries_128_fp16);
SIMT_KERNEL(flash_attention_backward_keys_128_fp16);
SIMT_KERNEL(flash_attention_forward_64_bf16);
SIMT_KERNEL(flash_attention_backward_queries_64_bf16);
SIMT_KERNEL(flash_attention_backward_keys_64_bf16);
SIMT_KERNEL(flash_attention_forward_128_bf16);
SIMT_KERNEL(flash_attention_backward_queries_128_bf16);
SIMT_KERNEL(flash_attention_backward_keys_128_bf16);
