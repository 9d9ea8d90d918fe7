// Arguments of kernels/cuda/embedding.cu: kernels/ops.h says what they mean.
#pragma once

#include "cuda/types.h"

namespace kernels::cuda {

struct EmbeddingForwardArgs {
  uint32_t tokens, channels, context, padding;
  const uint16_t* ids;  // (tokens)
  const float* wte;     // (vocabulary, channels)
  const float* wpe;     // (positions, channels) or null
  float* out;           // (tokens, channels)
};
static_assert(sizeof(EmbeddingForwardArgs) == 48 && offsetof(EmbeddingForwardArgs, out) == 40);

// dwte = dwte + the block's row sums
struct EmbeddingBackwardTokensArgs {
  uint32_t tokens, channels;
  const uint16_t* ids;  // (tokens)
  const float* dout;    // (tokens, channels)
  float* dwte;          // (vocabulary, channels)
};
static_assert(sizeof(EmbeddingBackwardTokensArgs) == 32 && offsetof(EmbeddingBackwardTokensArgs, dwte) == 24);

// dwpe = dwpe + the block's row sums
struct EmbeddingBackwardPositionsArgs {
  uint32_t tokens, channels, context, padding;
  const float* dout;  // (tokens, channels)
  float* dwpe;        // (positions, channels)
};
static_assert(sizeof(EmbeddingBackwardPositionsArgs) == 32 && offsetof(EmbeddingBackwardPositionsArgs, dwpe) == 24);

}  // namespace kernels::cuda
