#include "cuda_host/attention_launch.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "cuda/attention_args.h"
#include "cuda_host/half_precision.h"
#include "cuda_host/shape.h"

namespace kernels::cuda {
namespace {

// Op is AttentionForward or AttentionBackward.
template <class Op>
AttentionShape shape_of(const Op& op, size_t largest_head) {
  if (op.head_size > largest_head) {
    throw std::invalid_argument("attention: heads of " + std::to_string(op.head_size) +
                                " dimensions; the CUDA kernels take at most " + std::to_string(largest_head));
  }
  AttentionShape shape{};
  shape.qkv = op.qkv.first();
  shape.context = narrow(op.context), shape.heads = narrow(op.heads), shape.kv_heads = narrow(op.kv_heads);
  shape.head_size = narrow(op.head_size);
  shape.scale = 1.0f / std::sqrt(static_cast<float>(op.head_size));
  shape.aligned = aligned_16(op.qkv, op.head_size) && aligned_16(op.out, op.head_size);
  return shape;
}

AttentionForwardArgs args_of(const AttentionForward& op, size_t largest_head) {
  AttentionForwardArgs args{};
  args.shape = shape_of(op, largest_head);
  args.out = op.out.first(), args.row_max = op.row_max, args.inverse_sum = op.inverse_sum;
  return args;
}

AttentionBackwardArgs args_of(const AttentionBackward& op, size_t largest_head) {
  AttentionBackwardArgs args{};
  args.shape = shape_of(op, largest_head);
  args.shape.row_max = op.row_max, args.shape.inverse_sum = op.inverse_sum;
  args.shape.aligned = args.shape.aligned && aligned_16(op.dout, op.head_size) && aligned_16(op.dqkv, op.head_size);
  args.out = op.out.first(), args.dout = op.dout.first(), args.dqkv = op.dqkv.first();
  args.row_products = op.workspace;
  return args;
}

// One block for each tile of each of `heads` heads and each slice of `width` dimensions.
template <class Args>
void launch_blocks(const std::string& kernel, Args args, size_t heads, uint32_t width, uint32_t threads,
                   Launcher& device, uint32_t tile = attention_tile) {
  args.shape.tiles = blocks_for(args.shape.context, tile);
  args.shape.slices = blocks_for(args.shape.head_size, width);
  const Shape shape{.grid = {narrow(heads * args.shape.slices * args.shape.tiles), 1, 1}, .block = {threads, 1, 1}};
  launch(device, kernel.c_str(), shape, args);
}

std::string with_width(const char* name, uint32_t width) { return std::string(name) + "_" + std::to_string(width); }

uint32_t width_of(size_t head_size) { return head_size <= 64 ? 64 : 128; }

}  // namespace

void launch_attention_forward(const AttentionForward& op, Launcher& device) {
  if (op.sequences == 0) return;
  const uint32_t width = width_of(op.head_size);
  launch_blocks(with_width("attention_forward", width), args_of(op, chunk_terms), op.sequences * op.heads, width,
                attention_threads, device);
}

void launch_attention_backward(const AttentionBackward& op, Launcher& device) {
  if (op.sequences == 0) return;
  const AttentionBackwardArgs args = args_of(op, chunk_terms);
  const uint32_t width = width_of(op.head_size);
  launch_blocks(with_width("attention_backward_queries", width), args, op.sequences * op.heads, width,
                attention_threads, device);
  // With the totals of several chunks of queries a wide block's registers would not do.
  const bool several_chunks = op.context > chunk_terms;
  const uint32_t keys_width = several_chunks ? 64 : width;
  const uint32_t keys_threads = several_chunks || width > 64 ? attention_many_threads : attention_threads;
  launch_blocks(with_width("attention_backward_keys", keys_width) + (several_chunks ? "_long" : ""), args,
                op.sequences * op.kv_heads, keys_width, keys_threads, device);
}

void launch_flash_attention_forward(const AttentionForward& op, HalfPrecision half, Launcher& device) {
  if (op.sequences == 0) return;
  const uint32_t width = width_of(op.head_size);
  launch_blocks(with_width("flash_attention_forward", width) + "_" + name_of(half), args_of(op, fast_head_size),
                op.sequences * op.heads, width, flash_threads, device,
                width == 64 ? flash_queries<64> : flash_queries<128>);
}

void launch_flash_attention_backward(const AttentionBackward& op, HalfPrecision half, Launcher& device) {
  if (op.sequences == 0) return;
  const AttentionBackwardArgs args = args_of(op, fast_head_size);
  const uint32_t width = width_of(op.head_size);
  const std::string queries = with_width("flash_attention_backward_queries", width) + "_" + name_of(half);
  launch_blocks(queries, args, op.sequences * op.heads, width, flash_threads, device);
  const std::string keys = with_width("flash_attention_backward_keys", width) + "_" + name_of(half);
  launch_blocks(keys, args, op.sequences * op.kv_heads, flash_slice, flash_threads, device);
}

}  // namespace kernels::cuda
