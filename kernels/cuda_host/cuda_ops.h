// The operations as launches of the kernels of kernels/cuda/, docs/numerics.md to the bit.
#pragma once

#include <memory>
#include <span>

#include "cuda/run_sums_args.h"
#include "cuda_host/gemm_library.h"
#include "cuda_host/int8_arithmetic.h"
#include "cuda_host/launch.h"
#include "kernels/ops.h"

namespace kernels::cuda {

// What a library multiplies; null: our own kernels do. Where the library declines a product they do, too.
struct ByLibrary {
  GemmLibrary* halves = nullptr;
  GemmLibrary* digits = nullptr;
};

// An Ops that computes in a device's memory. Besides what ops.h says, each operation throws what the launcher throws,
// std::length_error for 2^31 rows or columns and more, and std::invalid_argument for what a comment below does not
// allow.
class CudaOps : public Ops {
 public:
  // device and libraries must outlive the CudaOps; its code must have `int8` and `half`, see choose_int8_arithmetic()
  // and choose_half_precision().
  CudaOps(Launcher& device, Int8Arithmetic int8, HalfPrecision half, ByLibrary by_library = {});

  std::string name() const override { return "cuda"; }
  HalfPrecision half_precision() const override { return half_; }

  bool in_host_memory() const override { return false; }
  void* allocate(size_t bytes) override { return device_.allocate(bytes); }
  void free(void* memory) noexcept override { device_.free(memory); }
  void write(void* memory, const void* host, size_t bytes) override { device_.write(memory, host, bytes); }
  void read(void* host, const void* memory, size_t bytes) override { device_.read(host, memory, bytes); }
  void copy(void* to, const void* from, size_t bytes) override { device_.copy(to, from, bytes); }
  void zero(void* memory, size_t bytes) override { device_.zero(memory, bytes); }
  size_t free_bytes() override { return device_.free_bytes(); }
  size_t wanted_tokens() const override;
  std::unique_ptr<RepeatedOperations> repeated() override;

  void matmul(const Matmul&) override;           // one of a's two strides must be 1, and one of b's
  void fast_matmul(const FastMatmul&) override;  // likewise
  void round_to_halves(const RoundToHalves&) override;
  void quantise_rows(const Quantise&) override;
  void quantise_columns(const Quantise&) override;
  void int8_matmul(const Int8Matmul&) override;
  void embedding_forward(const EmbeddingForward&) override;
  void embedding_backward(const EmbeddingBackward&) override;
  void layer_norm_forward(const LayerNormForward&) override;
  void layer_norm_backward(const LayerNormBackward&) override;
  void rms_norm_forward(const RmsNormForward&) override;
  void rms_norm_backward(const RmsNormBackward&) override;
  void bias_backward(const BiasBackward&) override;
  void gelu_forward(const GeluForward&) override;
  void gelu_backward(const GeluBackward&) override;
  void swiglu_forward(const SwigluForward&) override;
  void swiglu_backward(const SwigluBackward&) override;
  void rope(const Rope&) override;
  void attention_forward(const AttentionForward&) override;  // heads of at most 2048 dimensions
  void attention_backward(const AttentionBackward&) override;
  void cross_entropy(const CrossEntropy&) override;
  void adamw(const AdamW&) override;
  void nesterov(const Nesterov&) override;

  float row_sum(const float* x, size_t count) override;
  void add(const float* x, float* y, size_t count) override;
  void scale(float factor, float* y, size_t count) override;
  void subtract(const float* a, const float* b, float* out, size_t count) override;
  void sums_of_squares(const TensorEnd* tensors, size_t tensor_count, const float* x, float* sums) override;
  size_t first_non_finite(const float* x, size_t count) override;
  void leaf_hashes(const float* x, size_t count, size_t leaf, uint8_t* hashes) override;  // leaf: below 2^27
  void encode(const Encode&) override;

  size_t attention_workspace(size_t queries, size_t, size_t) const override { return queries; }
  size_t embedding_workspace(size_t, size_t) const override { return 0; }
  size_t fast_workspace() const override;
  size_t own_bytes() const override;

 private:
  struct Free {
    Launcher* device;
    void operator()(void* memory) const noexcept { device->free(memory); }
  };

  void* scratch(size_t bytes);
  RunSums run_sums(size_t rows, size_t columns, size_t block, std::initializer_list<float*> out) const;
  template <class Args>
  void launch_run_sums(const std::string& kernel, const RunSums& sums, const Args& args);
  void add_up(const char* segment_kernel, std::span<const TensorEnd> tensors, const float* x, float* partial,
              float* sums);

  Launcher& device_;
  const Int8Arithmetic int8_;
  const HalfPrecision half_;
  const ByLibrary by_library_;
  const std::unique_ptr<void, Free> chunk_sums_;  // of products, and blocks' of gains; what encode() made
  std::unique_ptr<void, Free> scratch_;           // grows to what the largest sum, or array to be hashed, needs
  size_t scratch_bytes_ = 0;
};

}  // namespace kernels::cuda
