// The table of a vector type.
#pragma once

#include "cpu/attention.h"
#include "cpu/elementwise.h"
#include "cpu/gemm.h"
#include "cpu/kernel_table.h"
#include "cpu/layers.h"

namespace kernels {

template <class V>
constexpr KernelTable make_table() {
  return {
      .name = V::name,
      .gemm_buffer = Gemm<V>::buffer_floats,
      .gemm_rows = Gemm<V>::tile_m,
      .gemm_columns = Gemm<V>::tile_n,
      .matmul = [](const Matmul& share, float* buffer) { Gemm<V>(share, buffer).run(); },
      .embedding_forward = embedding_forward<V>,
      .embedding_backward_tokens = embedding_backward_tokens<V>,
      .embedding_backward_positions = embedding_backward_positions<V>,
      .layer_norm_forward = layer_norm_forward<V>,
      .layer_norm_backward_columns = layer_norm_backward_columns<V>,
      .layer_norm_backward_rows = layer_norm_backward_rows<V>,
      .bias_backward = bias_backward<V>,
      .gelu_forward = gelu_forward<V>,
      .gelu_backward = gelu_backward<V>,
      .cross_entropy = cross_entropy<V>,
      .attention_workspace = AttentionHead<V>::workspace,
      .attention_tiles = AttentionHead<V>::tiles,
      .attention_forward =
          [](const AttentionForward& op, size_t item, size_t tile, float* workspace, float* buffer) {
            AttentionHead<V>(op.context, op.heads, op.channels, op.qkv, item, workspace, buffer).forward(op, tile);
          },
      .attention_backward =
          [](const AttentionBackward& op, size_t item, float* workspace, float* buffer) {
            AttentionHead<V>(op.context, op.heads, op.channels, op.qkv, item, workspace, buffer).backward(op);
          },
      .adamw = adamw<V>,
      .nesterov = nesterov<V>,
      .add = add<V>,
      .scale = scale<V>,
      .subtract = subtract<V>,
      .sum = sum<V>,
      .sum_of_squares = sum_of_squares<V>,
      .first_non_finite = first_non_finite<V>,
  };
}

}  // namespace kernels
