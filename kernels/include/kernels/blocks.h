// An operation over several blocks of tokens as operations over one each, for an Ops that computes one at a time.
#pragma once

#include <algorithm>
#include <cstddef>

#include "kernels/ops.h"

namespace kernels {

// The tokens [first, first + count) of an operation, which are its block number `index`.
struct BlockTokens {
  size_t index, first, count;
};

inline Matmul block_of(Matmul op, const BlockTokens& at) {
  op.k = at.count;
  op.a += at.first * op.a_col, op.b += at.first * op.b_row;
  return op;
}

inline Int8Matmul block_of(Int8Matmul op, const BlockTokens& at) {
  op.k = at.count;
  op.a += at.first * op.a_col, op.b += at.first * op.b_row;
  if (op.a_low) op.a_low += at.first * op.a_col;
  if (op.a_scales) op.a_scales += at.index * op.block_scales;
  if (op.b_scales) op.b_scales += at.index * op.block_scales;
  return op;
}

inline Quantise block_of(Quantise op, const BlockTokens& at) {
  const size_t first = at.first * op.row;
  op.rows = at.count;
  op.x += first, op.q += first;
  if (op.low) op.low += first;
  if (op.row_factors) op.row_factors += at.first;
  op.scales += at.index * op.columns;
  return op;
}

inline EmbeddingBackward block_of(EmbeddingBackward op, const BlockTokens& at) {
  op.tokens = at.count;
  op.ids += at.first, op.dout += at.first * op.channels;
  return op;
}

inline BiasBackward block_of(BiasBackward op, const BlockTokens& at) {
  op.rows = at.count;
  op.dy += at.first * op.channels;
  return op;
}

inline LayerNormBackward block_of(LayerNormBackward op, const BlockTokens& at) {
  const size_t first = at.first * op.channels;
  op.rows = at.count;
  op.dy += first, op.x += first, op.dx += first;
  op.mean += at.first, op.rstd += at.first;
  if (op.dresidual) op.dresidual += first;
  return op;
}

inline RmsNormBackward block_of(RmsNormBackward op, const BlockTokens& at) {
  const size_t first = at.first * op.channels;
  op.rows = at.count;
  op.dy += first, op.x += first, op.dx += first;
  op.rstd += at.first;
  if (op.dresidual) op.dresidual += first;
  return op;
}

inline size_t tokens_of(const Matmul& op) { return op.k; }
inline size_t tokens_of(const Int8Matmul& op) { return op.k; }
inline size_t tokens_of(const EmbeddingBackward& op) { return op.tokens; }
template <class Op>
size_t tokens_of(const Op& op) {
  return op.rows;
}

// f(operation) for each block of `op`, which has a `block`, upward.
template <class Op, class F>
void for_each_block(const Op& op, const F& f) {
  BlockTokens at{0, 0, 0};
  for (; at.first < tokens_of(op); at.first += op.block, ++at.index) {
    at.count = std::min(op.block, tokens_of(op) - at.first);
    Op one = block_of(op, at);
    one.block = 0;
    f(one);
  }
}

}  // namespace kernels
