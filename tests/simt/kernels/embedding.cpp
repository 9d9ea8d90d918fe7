#include "device.h"
// After it, since it defines the device's words.
#include "cuda/embedding.cu"

SIMT_KERNEL(embedding_forward);
SIMT_KERNEL(embedding_backward_tokens);
SIMT_KERNEL(embedding_backward_positions);
