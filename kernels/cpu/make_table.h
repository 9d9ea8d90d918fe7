// The table of a vector type.
#pragma once

#include "cpu/attention.h"
#include "cpu/elementwise.h"
#include "cpu/gemm.h"
#include "cpu/int8_gemm.h"
#include "cpu/int8_quantise.h"
#include "cpu/kernel_table.h"
#include "cpu/layers.h"
#include "cpu/llama_layers.h"

namespace kernels {

// Dot: how V multiplies int8.
template <class V, class Dot = PairDot<V>>
constexpr KernelTable make_table(const char* name = V::name) {
  return {
      .name = name,
      .gemm_buffer = Gemm<V>::buffer_floats,
      .gemm_rows = Gemm<V>::tile_m,
      .gemm_columns = Gemm<V>::tile_n,
      .matmul = [](const Matmul& share, float* buffer) { Gemm<V>(share, buffer).run(); },
      .int8_buffer = Int8Gemm<V, Dot>::buffer_floats,
      .int8_rows = Int8Gemm<V, Dot>::row_unit,
      .int8_columns = Int8Gemm<V, Dot>::column_unit,
      .int8_matmul = [](const Int8Matmul& share, float* buffer) { Int8Gemm<V, Dot>(share, buffer).run(); },
      .quantise_rows = quantise_rows<V>,
      .quantise_columns = quantise_columns<V>,
      .embedding_forward = embedding_forward<V>,
      .embedding_backward_tokens = embedding_backward_tokens<V>,
      .embedding_backward_positions = embedding_backward_positions<V>,
      .layer_norm_forward = layer_norm_forward<V>,
      .layer_norm_backward_columns = layer_norm_backward_columns<V>,
      .layer_norm_backward_rows = layer_norm_backward_rows<V>,
      .rms_norm_forward = rms_norm_forward<V>,
      .rms_norm_backward_columns = rms_norm_backward_columns<V>,
      .rms_norm_backward_rows = rms_norm_backward_rows<V>,
      .bias_backward = bias_backward<V>,
      .gelu_forward = gelu_forward<V>,
      .gelu_backward = gelu_backward<V>,
      .swiglu_forward = swiglu_forward<V>,
      .swiglu_backward = swiglu_backward<V>,
      .rope = rope<V>,
      .cross_entropy = cross_entropy<V>,
      .attention_workspace = AttentionHead<V>::workspace,
      .attention_tiles = AttentionHead<V>::tiles,
      .attention_forward = attention_forward<V>,
      .attention_backward = attention_backward<V>,
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
