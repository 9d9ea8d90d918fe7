#include "cuda_host/attention_launch.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "cuda/attention_args.h"
#include "cuda_host/shape.h"

namespace kernels::cuda {
namespace {

// Op is AttentionForward or AttentionBackward.
template <class Op>
AttentionShape shape_of(const Op& op) {
  if (op.head_size > chunk_terms) {
    throw std::invalid_argument("attention: heads of " + std::to_string(op.head_size) +
                                " dimensions; the CUDA kernels take at most " + std::to_string(chunk_terms));
  }
  AttentionShape shape{};
  shape.qkv = op.qkv;
  shape.context = narrow(op.context), shape.heads = narrow(op.heads), shape.kv_heads = narrow(op.kv_heads);
  shape.head_size = narrow(op.head_size);
  shape.tiles = blocks_for(op.context, attention_tile);
  shape.scale = 1.0f / std::sqrt(static_cast<float>(op.head_size));
  shape.aligned = aligned(op.qkv, op.head_size) && aligned(op.out, 0);
  return shape;
}

// One block for each tile of each of `heads` heads and each slice of `width` dimensions.
template <class Args>
void launch_blocks(const std::string& name, Args args, size_t heads, uint32_t width, bool any_context,
                   Launcher& device) {
  args.shape.slices = blocks_for(args.shape.head_size, width);
  const std::string kernel = name + "_" + std::to_string(width) + (any_context ? "_long" : "");
  const Shape shape{.grid = {narrow(heads * args.shape.slices * args.shape.tiles), 1, 1},
                    .block = {attention_threads, 1, 1}};
  launch(device, kernel.c_str(), shape, args);
}

uint32_t width_of(size_t head_size) { return head_size <= 64 ? 64 : 128; }

}  // namespace

void launch_attention_forward(const AttentionForward& op, Launcher& device) {
  if (op.sequences == 0) return;
  AttentionForwardArgs args{};
  args.shape = shape_of(op);
  args.out = op.out, args.row_max = op.row_max, args.inverse_sum = op.inverse_sum;
  launch_blocks("attention_forward", args, op.sequences * op.heads, width_of(op.head_size), false, device);
}

void launch_attention_backward(const AttentionBackward& op, Launcher& device) {
  if (op.sequences == 0) return;
  AttentionBackwardArgs args{};
  args.shape = shape_of(op);
  args.shape.row_max = op.row_max, args.shape.inverse_sum = op.inverse_sum;
  args.shape.aligned = args.shape.aligned && aligned(op.dout, 0) && aligned(op.dqkv, 0);
  args.out = op.out, args.dout = op.dout, args.dqkv = op.dqkv;
  const uint32_t width = width_of(op.head_size);
  launch_blocks("attention_backward_queries", args, op.sequences * op.heads, width, false, device);
  // With the totals of several chunks of queries a wide block's registers would not do.
  const bool several_chunks = op.context > chunk_terms;
  launch_blocks("attention_backward_keys", args, op.sequences * op.kv_heads, several_chunks ? 64 : width,
                several_chunks, device);
}

}  // namespace kernels::cuda
