// Causal attention of single query heads: one thread's share, a tile of queries at a time. Masked keys are never
// touched but inside the tile on the diagonal, where they are exact zeros.
#pragma once

#include <cstddef>
#include <limits>

#include "cpu/gemm.h"
#include "cpu/layers.h"
#include "cpu/rows.h"
#include "kernels/ops.h"

namespace kernels {

template <class V>
class AttentionHead {
 public:
  static constexpr size_t tile = 64, chunk = 2048;  // a chunk of queries is whole tiles

  static size_t tiles(size_t context) { return (context + tile - 1) / tile; }

  // Floats of workspace for one thread: scores, their gradients, and the chains and totals of dk and dv.
  static size_t workspace(size_t context, size_t head_size) {
    return 2 * tile * stride_of(context) + (context > chunk ? 4 : 2) * context * head_size;
  }

  // Op is AttentionForward or AttentionBackward; item a (sequence, query head) pair.
  template <class Op>
  AttentionHead(const Op& op, size_t item, float* workspace, float* gemm_buffer)
      : context_(op.context),
        stride_(stride_of(op.context)),
        head_size_(op.head_size),
        row_(op.heads * op.head_size),
        qkv_row_(row_ + 2 * op.kv_heads * op.head_size),
        first_token_(item / op.heads * op.context),
        column_(item % op.heads * op.head_size),
        k_column_(row_ + item % op.heads / (op.heads / op.kv_heads) * op.head_size),
        v_column_(k_column_ + op.kv_heads * op.head_size),
        item_(item),
        scale_(1 / first(sqrt(V::broadcast(static_cast<float>(op.head_size))))),
        q_(op.qkv + first_token_ * qkv_row_ + column_),
        k_(op.qkv + first_token_ * qkv_row_ + k_column_),
        v_(op.qkv + first_token_ * qkv_row_ + v_column_),
        scores_(workspace),
        dscores_(scores_ + tile * stride_),
        dk_(dscores_ + tile * stride_),
        dv_(dk_ + context_ * head_size_),
        totals_(dv_ + context_ * head_size_),
        buffer_(gemm_buffer) {}

  void forward(const AttentionForward& op, size_t tile_index) {
    set_tile(tile_index * tile);
    score();
    float* out = op.out + first_token_ * row_ + column_;
    for (size_t i = begin_; i < end_; ++i) {
      float* s = scores_ + (i - begin_) * stride_;
      const size_t keys = whole_vectors(i + 1);
      V m = V::broadcast(-infinity);
      for (size_t j = 0; j < keys; j += V::width) {
        const V x = V::load(s + j) * V::broadcast(scale_);
        x.store(s + j);
        m = max(x, m);
      }
      const float row_max = highest(m);
      const float sum = row_sum<V>(keys, [&](size_t j, auto) {
        const V e = exp(V::load(s + j) - V::broadcast(row_max));
        e.store(s + j);
        return e;
      });
      clear(s, keys);
      op.row_max[item_ * context_ + i] = row_max;
      op.inverse_sum[item_ * context_ + i] = 1 / sum;
    }
    multiply({.m = end_ - begin_,
              .n = head_size_,
              .k = end_,
              .a = scores_,
              .a_row = stride_,
              .b = v_,
              .b_row = qkv_row_,
              .c = out + begin_ * row_,
              .ldc = row_},
             Skip::terms_after_row);
    for (size_t i = begin_; i < end_; ++i) multiply_row(out + i * row_, op.inverse_sum[item_ * context_ + i]);
  }

  // Writes dq, and adds dk and dv to those of the heads before it that share its keys.
  void backward(const AttentionBackward& op, bool first_of_keys) {
    float* dqkv = op.dqkv + first_token_ * qkv_row_;
    float* dq = dqkv + column_;
    const float* dout = op.dout + first_token_ * row_ + column_;
    for (set_tile(0); begin_ < context_; set_tile(end_)) {
      if (begin_ % chunk == 0) clear_chains();
      score();
      multiply({.m = end_ - begin_,
                .n = end_,
                .k = head_size_,
                .a = dout + begin_ * row_,
                .a_row = row_,
                .b = v_,
                .b_row = 1,
                .b_col = qkv_row_,
                .c = dscores_,
                .ldc = stride_},
               Skip::columns_after_row);
      for (size_t i = begin_; i < end_; ++i) score_gradient(op, i);
      multiply({.m = end_ - begin_,
                .n = head_size_,
                .k = end_,
                .a = dscores_,
                .a_row = stride_,
                .b = k_,
                .b_row = qkv_row_,
                .c = dq + begin_ * qkv_row_,
                .ldc = qkv_row_},
               Skip::terms_after_row);
      for (size_t i = begin_; i < end_; ++i) multiply_row(dq + i * qkv_row_, scale_);
      extend_chain(dscores_, q_ + begin_ * qkv_row_, qkv_row_, dk_);
      extend_chain(scores_, dout + begin_ * row_, row_, dv_);
      if (end_ % chunk == 0 || end_ == context_) {
        add_chain(dk_, totals_, dqkv + k_column_, first_of_keys);
        add_chain(dv_, totals_ + context_ * head_size_, dqkv + v_column_, first_of_keys);
      }
    }
  }

  // dk is multiplied by the scale once, after the last head.
  void scale_keys(const AttentionBackward& op) {
    for (size_t j = 0; j < context_; ++j) multiply_row(op.dqkv + (first_token_ + j) * qkv_row_ + k_column_, scale_);
  }

 private:
  static constexpr float infinity = std::numeric_limits<float>::infinity();

  // Whole cache lines, and an odd number of them: else rows of long contexts meet in the same cache sets.
  static size_t stride_of(size_t context) { return ((context + cache_line - 1) / cache_line | 1) * cache_line; }

  void set_tile(size_t begin) {
    begin_ = begin;
    end_ = begin + tile < context_ ? begin + tile : context_;
  }

  // Rows are the tile's queries.
  void multiply(const Matmul& product, Skip skip) { Gemm<V>(product, buffer_, {.skip = skip, .first = begin_}).run(); }

  // scores = q·k of the tile's queries and the keys up to its end. The masked ones of a row's last vector become
  // -infinity, whose exponential is +0; all rows' at once, as a load waits until a store to a part of it is done.
  void score() {
    multiply({.m = end_ - begin_,
              .n = end_,
              .k = head_size_,
              .a = q_ + begin_ * qkv_row_,
              .a_row = qkv_row_,
              .b = k_,
              .b_row = 1,
              .b_col = qkv_row_,
              .c = scores_,
              .ldc = stride_},
             Skip::columns_after_row);
    for (size_t i = begin_; i < end_; ++i) {
      const size_t keys = i + 1;
      V::broadcast(-infinity).store(scores_ + (i - begin_) * stride_ + keys, Part{whole_vectors(keys) - keys});
    }
  }

  // Turns row i of scores into P and of dscores (dP so far) into dS.
  void score_gradient(const AttentionBackward& op, size_t i) {
    float* s = scores_ + (i - begin_) * stride_;
    float* ds = dscores_ + (i - begin_) * stride_;
    const size_t row = (first_token_ + i) * row_ + column_;
    const V d = V::broadcast(row_sum<V>(head_size_, [&](size_t j, auto part) {
      return V::load(op.dout + row + j, part) * V::load(op.out + row + j, part);
    }));
    const V max = V::broadcast(op.row_max[item_ * context_ + i]);
    const V inverse = V::broadcast(op.inverse_sum[item_ * context_ + i]);
    const size_t keys = whole_vectors(i + 1);
    for (size_t j = 0; j < keys; j += V::width) {
      const V p = exp(V::load(s + j) * V::broadcast(scale_) - max) * inverse;
      p.store(s + j);
      (p * (V::load(ds + j) - d)).store(ds + j);
    }
    clear(s, keys);
    clear(ds, i + 1);
  }

  static size_t whole_vectors(size_t keys) { return (keys + V::width - 1) / V::width * V::width; }

  // Zeros from `keys` to the end of the tile's rows.
  void clear(float* row, size_t keys) const {
    for_each_vector<V>(keys, end_, [&](size_t j, auto part) { V::zero().store(row + j, part); });
  }

  void clear_chains() {
    for (size_t i = 0; i < 2 * context_ * head_size_; ++i) dk_[i] = 0;
  }

  // chain[j] goes on over the tile's queries i: fma(rows[i, j], with[i], chain[j]).
  void extend_chain(const float* rows, const float* with, size_t stride, float* chain) {
    Gemm<V>({.m = end_,
             .n = head_size_,
             .k = end_ - begin_,
             .a = rows,
             .a_row = 1,
             .a_col = stride_,
             .b = with,
             .b_row = stride,
             .c = chain,
             .ldc = head_size_},
            buffer_, {.extends_chain = true, .skip = Skip::terms_before_row, .first = begin_})
        .run();
  }

  // The finished chunk's chain is added to the head's total, and after the last chunk the total to the heads' sum.
  void add_chain(const float* chain, float* total, float* sum, bool first_of_keys) {
    const bool first_chunk = end_ <= chunk, last_chunk = end_ == context_;
    for (size_t i = 0; i < context_; ++i) {
      for_each_vector<V>(0, head_size_, [&](size_t j, auto part) {
        const size_t at = i * head_size_ + j;
        V x = (first_chunk ? V::zero() : V::load(total + at, part)) + V::load(chain + at, part);
        if (!last_chunk) return x.store(total + at, part);
        float* out = sum + i * qkv_row_ + j;
        if (!first_of_keys) x = V::load(out, part) + x;
        x.store(out, part);
      });
    }
  }

  void multiply_row(float* x, float factor) {
    for_each_vector<V>(0, head_size_,
                       [&](size_t j, auto part) { (V::load(x + j, part) * V::broadcast(factor)).store(x + j, part); });
  }

  const size_t context_, stride_, head_size_;
  const size_t row_, qkv_row_;  // floats of a token in out and in qkv
  const size_t first_token_, column_, k_column_, v_column_, item_;
  const float scale_;
  const float* const q_;
  const float* const k_;
  const float* const v_;
  float* const scores_;   // (tile, stride_): whole vectors
  float* const dscores_;  // (tile, stride_)
  float* const dk_;       // (context, head_size)
  float* const dv_;       // (context, head_size), right behind dk_
  float* const totals_;   // dk's and dv's, where there are several chunks
  float* const buffer_;
  size_t begin_ = 0, end_ = 0;  // the tile's queries
};

template <class V>
void attention_forward(const AttentionForward& op, size_t item, size_t tile, float* workspace, float* buffer) {
  AttentionHead<V>(op, item, workspace, buffer).forward(op, tile);
}

// All query heads of a (sequence, key head) pair.
template <class V>
void attention_backward(const AttentionBackward& op, size_t item, float* workspace, float* buffer) {
  const size_t group = op.heads / op.kv_heads;
  for (size_t i = 0; i < group; ++i) {
    AttentionHead<V> head(op, item * group + i, workspace, buffer);
    head.backward(op, i == 0);
    if (i + 1 == group) head.scale_keys(op);
  }
}

}  // namespace kernels
