// An Ops that times every call of another one and counts what the call must compute and move at least.
#pragma once

#include <map>
#include <string>

#include "bench/measure.h"
#include "kernels/ops.h"
#include "model/head.h"

namespace kernels::bench {

struct OperationTime {
  size_t calls = 0;
  double seconds = 0, flops = 0, bytes = 0;  // flops of matrix products; bytes of what is read and written, once each
  bool int8 = false;                         // products of bytes
};

class TimedOps final : public Ops {
 public:
  TimedOps(Ops& ops, size_t vocabulary) : ops_(ops), row_of_logits_(row_of_logits(vocabulary)) {}

  std::map<std::string, OperationTime> times;

  std::string name() const override { return ops_.name(); }
  void matmul(const Matmul& op) override {
    const bool head = of_head(op);
    const std::string what = op.a_row == 1 ? "weight gradient" : "forward and input gradient";
    time((head ? "head: " : "linear: ") + what, 2.0 * product(op.m, op.n, op.k), 0, [&] { ops_.matmul(op); });
  }
  void quantise_rows(const Quantise& op) override {
    time("int8: quantising rows", 0, quantised(op), [&] { ops_.quantise_rows(op); });
  }
  void quantise_columns(const Quantise& op) override {
    time("int8: quantising columns", 0, quantised(op), [&] { ops_.quantise_columns(op); });
  }
  void int8_matmul(const Int8Matmul& op) override {
    const bool head = of_head(op);
    const std::string what = op.a_row == 1 ? "weight gradient" : "forward and input gradient";
    const std::string name = (head ? "int8: head: " : "int8: linear: ") + what;
    const double digits = op.a_low ? 2 : 1;
    time(name, 2.0 * digits * product(op.m, op.n, op.k), 0, [&] { ops_.int8_matmul(op); });
    times[name].int8 = true;
  }
  void embedding_forward(const EmbeddingForward& op) override {
    time("embeddings", 0, 3 * floats(op.tokens, op.channels), [&] { ops_.embedding_forward(op); });
  }
  void embedding_backward(const EmbeddingBackward& op) override {
    time("embeddings", 0, 6 * floats(op.tokens, op.channels), [&] { ops_.embedding_backward(op); });
  }
  void layer_norm_forward(const LayerNormForward& op) override {
    time("norms forward", 0, 2 * floats(op.rows, op.channels), [&] { ops_.layer_norm_forward(op); });
  }
  void layer_norm_backward(const LayerNormBackward& op) override {
    time("norms backward", 0, (op.dresidual ? 4 : 3) * floats(op.rows, op.channels),
         [&] { ops_.layer_norm_backward(op); });
  }
  void rms_norm_forward(const RmsNormForward& op) override {
    time("norms forward", 0, 2 * floats(op.rows, op.channels), [&] { ops_.rms_norm_forward(op); });
  }
  void rms_norm_backward(const RmsNormBackward& op) override {
    time("norms backward", 0, (op.dresidual ? 4 : 3) * floats(op.rows, op.channels),
         [&] { ops_.rms_norm_backward(op); });
  }
  void bias_backward(const BiasBackward& op) override {
    time("bias gradients", 0, floats(op.rows, op.channels), [&] { ops_.bias_backward(op); });
  }
  void gelu_forward(const GeluForward& op) override {
    time("GELU forward", 0, 2 * floats(op.count, 1), [&] { ops_.gelu_forward(op); });
  }
  void gelu_backward(const GeluBackward& op) override {
    time("GELU backward", 0, 3 * floats(op.count, 1), [&] { ops_.gelu_backward(op); });
  }
  void swiglu_forward(const SwigluForward& op) override {
    time("SwiGLU forward", 0, 3 * floats(op.rows, op.inner), [&] { ops_.swiglu_forward(op); });
  }
  void swiglu_backward(const SwigluBackward& op) override {
    time("SwiGLU backward", 0, 5 * floats(op.rows, op.inner), [&] { ops_.swiglu_backward(op); });
  }
  void rope(const Rope& op) override {
    time("RoPE", 0, 2 * floats(op.tokens, op.heads * op.head_size), [&] { ops_.rope(op); });
  }
  void attention_forward(const AttentionForward& op) override {
    time("attention forward", 2 * attention(op), 0, [&] { ops_.attention_forward(op); });
  }
  void attention_backward(const AttentionBackward& op) override {
    time("attention backward", 5 * attention(op), 0, [&] { ops_.attention_backward(op); });
  }
  void cross_entropy(const CrossEntropy& op) override {
    time("cross-entropy", 0, 2 * floats(op.rows, op.vocabulary), [&] { ops_.cross_entropy(op); });
  }
  void adamw(const AdamW& op) override {
    time("AdamW", 0, 7 * elements(op.tensors, op.tensor_count), [&] { ops_.adamw(op); });
  }
  void nesterov(const Nesterov& op) override {
    time("Nesterov", 0, 5 * floats(op.count, 1), [&] { ops_.nesterov(op); });
  }
  float row_sum(const float* x, size_t count) override {
    float sum = 0;
    time("sums", 0, floats(count, 1), [&] { sum = ops_.row_sum(x, count); });
    return sum;
  }
  void sums_of_squares(const TensorEnd* tensors, size_t tensor_count, const float* x, float* sums) override {
    time("sums", 0, elements(tensors, tensor_count), [&] { ops_.sums_of_squares(tensors, tensor_count, x, sums); });
  }
  void add(const float* x, float* y, size_t count) override {
    time("add", 0, 3 * floats(count, 1), [&] { ops_.add(x, y, count); });
  }
  void scale(float factor, float* y, size_t count) override {
    time("scale", 0, 2 * floats(count, 1), [&] { ops_.scale(factor, y, count); });
  }
  void subtract(const float* a, const float* b, float* out, size_t count) override {
    time("subtract", 0, 3 * floats(count, 1), [&] { ops_.subtract(a, b, out, count); });
  }
  size_t first_non_finite(const float* x, size_t count) override {
    size_t first = 0;
    time("first_non_finite", 0, floats(count, 1), [&] { first = ops_.first_non_finite(x, count); });
    return first;
  }
  size_t attention_workspace(size_t queries, size_t context, size_t head_size) const override {
    return ops_.attention_workspace(queries, context, head_size);
  }
  size_t embedding_workspace(size_t vocabulary, size_t channels) const override {
    return ops_.embedding_workspace(vocabulary, channels);
  }
  size_t own_bytes() const override { return ops_.own_bytes(); }

 private:
  static double product(size_t a, size_t b, size_t c) {
    return static_cast<double>(a) * static_cast<double>(b) * static_cast<double>(c);
  }
  static double floats(size_t rows, size_t columns) { return 4 * product(rows, columns, 1); }
  static double elements(const TensorEnd* tensors, size_t tensor_count) {
    return tensor_count == 0 ? 0 : floats(tensors[tensor_count - 1].end, 1);
  }
  static double quantised(const Quantise& op) { return (op.low ? 1.5 : 1.25) * floats(op.rows, op.columns); }
  // Of one of the products between queries and keys, half of which are masked.
  template <class Op>
  static double attention(const Op& op) {
    return product(op.sequences * op.heads, op.context, op.context) * static_cast<double>(op.head_size);
  }

  template <class Product>
  bool of_head(const Product& op) const {
    return op.ldc == row_of_logits_ || op.a_row == row_of_logits_ || op.a_col == row_of_logits_;
  }

  template <class F>
  void time(const std::string& what, double flops, double bytes, const F& f) {
    const double start = now();
    f();
    OperationTime& t = times[what];
    ++t.calls;
    t.seconds += now() - start;
    t.flops += flops;
    t.bytes += bytes;
  }

  Ops& ops_;
  const size_t row_of_logits_;
};

}  // namespace kernels::bench
