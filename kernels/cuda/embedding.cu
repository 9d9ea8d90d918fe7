// Embeddings. The gradient of a row adds up its tokens upward: each (row, channel) is one chain, and chains run side by
// side.
#include "cuda/embedding_args.h"
#include "cuda/grid.cuh"
#include "cuda/reduce.cuh"

namespace kernels::cuda {

extern "C" __global__ void embedding_forward(const EmbeddingForwardArgs args) {
  for_each_row_and_column(args.tokens, args.channels, [&](uint64_t token, uint32_t channel) {
    float x = args.wte[uint64_t{args.ids[token]} * args.channels + channel];
    if (args.wpe) x = x + args.wpe[token % args.context * args.channels + channel];
    args.out[token * args.channels + channel] = x;
  });
}

// A warp per token and 32 channels. It looks for the token's id in 32 tokens at a time: where the id was seen before,
// an earlier warp adds this token; else this warp adds all tokens that have it.
extern "C" __global__ void embedding_backward_tokens(const EmbeddingBackwardTokensArgs args) {
  const uint32_t token = blockIdx.x;
  const uint32_t channel = (blockIdx.y * blockDim.y + threadIdx.y) * 32 + lane();
  const bool inside = channel < args.channels;
  const uint16_t id = args.ids[token];
  float sum = 0.0f;
  for (uint32_t first = 0; first < args.tokens; first += 32) {
    const uint32_t other = first + lane();
    uint32_t same = __ballot_sync(all_lanes, other < args.tokens && args.ids[other] == id);
    if (same != 0 && first + static_cast<uint32_t>(__ffs(static_cast<int>(same)) - 1) < token) return;
    for (; inside && same != 0; same &= same - 1) {
      const uint32_t found = first + static_cast<uint32_t>(__ffs(static_cast<int>(same)) - 1);
      sum = sum + args.dout[uint64_t{found} * args.channels + channel];
    }
  }
  if (!inside) return;
  float* out = args.dwte + uint64_t{id} * args.channels + channel;
  *out = *out + sum;
}

extern "C" __global__ void embedding_backward_positions(const EmbeddingBackwardPositionsArgs args) {
  const uint32_t positions = args.context < args.tokens ? args.context : args.tokens;
  for_each_row_and_column(positions, args.channels, [&](uint64_t position, uint32_t channel) {
    float sum = 0.0f;
    for (uint64_t token = position; token < args.tokens; token += args.context)
      sum = sum + args.dout[token * args.channels + channel];
    float* out = args.dwpe + position * args.channels + channel;
    *out = *out + sum;
  });
}

}  // namespace kernels::cuda
