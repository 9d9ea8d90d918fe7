#include "device.h"
// After it, since it defines the device's words.
#include "cuda/attention.cu"

SIMT_KERNEL(attention_forward_64);
SIMT_KERNEL(attention_forward_128);
SIMT_KERNEL(attention_backward_queries_64);
SIMT_KERNEL(attention_backward_queries_128);
SIMT_KERNEL(attention_backward_keys_64);
SIMT_KERNEL(attention_backward_keys_128);
SIMT_KERNEL(attention_backward_keys_64_long);
