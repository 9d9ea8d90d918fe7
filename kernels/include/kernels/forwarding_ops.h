// An Ops in front of another one.
#pragma once

#include <memory>
#include <utility>

#include "kernels/ops.h"

namespace kernels {

// Passes every operation on to another Ops; whoever wants to change or watch some of them overrides those. It has no
// repeated(), which would pass them by.
class ForwardingOps : public Ops {
 public:
  explicit ForwardingOps(std::unique_ptr<Ops> inner) : inner_(std::move(inner)) {}

  std::string name() const override { return inner_->name(); }
  HalfPrecision half_precision() const override { return inner_->half_precision(); }
  bool in_host_memory() const override { return inner_->in_host_memory(); }
  void* allocate(size_t bytes) override { return inner_->allocate(bytes); }
  void free(void* memory) noexcept override { inner_->free(memory); }
  void write(void* memory, const void* host, size_t bytes) override { inner_->write(memory, host, bytes); }
  void read(void* host, const void* memory, size_t bytes) override { inner_->read(host, memory, bytes); }
  void copy(void* to, const void* from, size_t bytes) override { inner_->copy(to, from, bytes); }
  void zero(void* memory, size_t bytes) override { inner_->zero(memory, bytes); }
  size_t free_bytes() override { return inner_->free_bytes(); }
  size_t wanted_tokens() const override { return inner_->wanted_tokens(); }
  void matmul(const Matmul& op) override { inner_->matmul(op); }
  void fast_matmul(const FastMatmul& op) override { inner_->fast_matmul(op); }
  void round_to_halves(const RoundToHalves& op) override { inner_->round_to_halves(op); }
  void quantise_rows(const Quantise& op) override { inner_->quantise_rows(op); }
  void quantise_columns(const Quantise& op) override { inner_->quantise_columns(op); }
  void int8_matmul(const Int8Matmul& op) override { inner_->int8_matmul(op); }
  void embedding_forward(const EmbeddingForward& op) override { inner_->embedding_forward(op); }
  void embedding_backward(const EmbeddingBackward& op) override { inner_->embedding_backward(op); }
  void layer_norm_forward(const LayerNormForward& op) override { inner_->layer_norm_forward(op); }
  void layer_norm_backward(const LayerNormBackward& op) override { inner_->layer_norm_backward(op); }
  void rms_norm_forward(const RmsNormForward& op) override { inner_->rms_norm_forward(op); }
  void rms_norm_backward(const RmsNormBackward& op) override { inner_->rms_norm_backward(op); }
  void bias_backward(const BiasBackward& op) override { inner_->bias_backward(op); }
  void gelu_forward(const GeluForward& op) override { inner_->gelu_forward(op); }
  void gelu_backward(const GeluBackward& op) override { inner_->gelu_backward(op); }
  void swiglu_forward(const SwigluForward& op) override { inner_->swiglu_forward(op); }
  void swiglu_backward(const SwigluBackward& op) override { inner_->swiglu_backward(op); }
  void rope(const Rope& op) override { inner_->rope(op); }
  void attention_forward(const AttentionForward& op) override { inner_->attention_forward(op); }
  void attention_backward(const AttentionBackward& op) override { inner_->attention_backward(op); }
  void cross_entropy(const CrossEntropy& op) override { inner_->cross_entropy(op); }
  void adamw(const AdamW& op) override { inner_->adamw(op); }
  void nesterov(const Nesterov& op) override { inner_->nesterov(op); }
  float row_sum(const float* x, size_t count) override { return inner_->row_sum(x, count); }
  void add(const float* x, float* y, size_t count) override { inner_->add(x, y, count); }
  void scale(float factor, float* y, size_t count) override { inner_->scale(factor, y, count); }
  void subtract(const float* a, const float* b, float* out, size_t count) override {
    inner_->subtract(a, b, out, count);
  }
  void sums_of_squares(const TensorEnd* tensors, size_t tensor_count, const float* x, float* sums) override {
    inner_->sums_of_squares(tensors, tensor_count, x, sums);
  }
  size_t first_non_finite(const float* x, size_t count) override { return inner_->first_non_finite(x, count); }
  void leaf_hashes(const float* x, size_t count, size_t leaf, uint8_t* hashes) override {
    inner_->leaf_hashes(x, count, leaf, hashes);
  }
  void encode(const Encode& op) override { inner_->encode(op); }
  size_t attention_workspace(size_t queries, size_t context, size_t head_size) const override {
    return inner_->attention_workspace(queries, context, head_size);
  }
  size_t embedding_workspace(size_t vocabulary, size_t channels) const override {
    return inner_->embedding_workspace(vocabulary, channels);
  }
  size_t fast_workspace() const override { return inner_->fast_workspace(); }
  size_t own_bytes() const override { return inner_->own_bytes(); }

 protected:
  std::unique_ptr<Ops> inner_;
};

}  // namespace kernels
