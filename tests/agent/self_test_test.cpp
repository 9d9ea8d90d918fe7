#include "self_test.h"

#include <gtest/gtest.h>

#include <bit>

#include "exit.h"
#include "system_info.h"

namespace agent {
namespace {

using kernels::Ops;

std::vector<std::string> commitments_with(UnitRunner::MakeOps make_ops) {
  UnitRunner runner(std::move(make_ops));
  std::vector<std::string> commitments;
  for (const GoldenUnit& golden : golden_units()) {
    const UnitPlan plan = runner.plan(golden.unit, golden.config, UINT64_MAX);
    commitments.push_back(commitments_of(runner.run(
        golden.unit, golden.config, plan.settings, golden.weights, golden.read_tokens, [](uint64_t) {}, [] { return false; })));
  }
  return commitments;
}

TEST(SelfTest, ReferenceGivesTheGoldenCommitments) {
  EXPECT_EQ(commitments_with(kernels::make_reference_ops), golden_commitments());
}

TEST(SelfTest, EveryPathAndThreadCountPasses) {
  for (const kernels::Simd simd : kernels::usable_simd()) {
    for (size_t threads : {1, 3}) {
      SCOPED_TRACE(kernels::name_of(simd) + ", threads " + std::to_string(threads));
      UnitRunner runner([&] { return kernels::make_cpu_ops(threads, simd); });
      EXPECT_NO_THROW(self_test(runner));
    }
  }
}

// A machine whose memory flips one bit of one product, once.
class FlippingOps : public Ops {
 public:
  explicit FlippingOps(size_t when) : when_(when), ops_(kernels::make_cpu_ops(1)) {}
  std::string name() const override { return "flipping"; }
  void matmul(const kernels::Matmul& op) override {
    ops_->matmul(op);
    float& value = op.c[(op.m - 1) * op.ldc + op.n - 1];
    if (when_-- == 0) value = std::bit_cast<float>(std::bit_cast<uint32_t>(value) ^ (1u << 12));
  }
  void embedding_forward(const kernels::EmbeddingForward& op) override { ops_->embedding_forward(op); }
  void embedding_backward(const kernels::EmbeddingBackward& op) override { ops_->embedding_backward(op); }
  void layer_norm_forward(const kernels::LayerNormForward& op) override { ops_->layer_norm_forward(op); }
  void layer_norm_backward(const kernels::LayerNormBackward& op) override { ops_->layer_norm_backward(op); }
  void rms_norm_forward(const kernels::RmsNormForward& op) override { ops_->rms_norm_forward(op); }
  void rms_norm_backward(const kernels::RmsNormBackward& op) override { ops_->rms_norm_backward(op); }
  void bias_backward(const kernels::BiasBackward& op) override { ops_->bias_backward(op); }
  void gelu_forward(const kernels::GeluForward& op) override { ops_->gelu_forward(op); }
  void gelu_backward(const kernels::GeluBackward& op) override { ops_->gelu_backward(op); }
  void swiglu_forward(const kernels::SwigluForward& op) override { ops_->swiglu_forward(op); }
  void swiglu_backward(const kernels::SwigluBackward& op) override { ops_->swiglu_backward(op); }
  void rope(const kernels::Rope& op) override { ops_->rope(op); }
  void attention_forward(const kernels::AttentionForward& op) override { ops_->attention_forward(op); }
  void attention_backward(const kernels::AttentionBackward& op) override { ops_->attention_backward(op); }
  void cross_entropy(const kernels::CrossEntropy& op) override { ops_->cross_entropy(op); }
  void adamw(const kernels::AdamW& op) override { ops_->adamw(op); }
  void nesterov(const kernels::Nesterov& op) override { ops_->nesterov(op); }
  float row_sum(const float* x, size_t count) override { return ops_->row_sum(x, count); }
  float sum_of_squares(const float* x, size_t count) override { return ops_->sum_of_squares(x, count); }
  void add(const float* x, float* y, size_t count) override { ops_->add(x, y, count); }
  void scale(float factor, float* y, size_t count) override { ops_->scale(factor, y, count); }
  void subtract(const float* a, const float* b, float* out, size_t count) override { ops_->subtract(a, b, out, count); }
  size_t first_non_finite(const float* x, size_t count) override { return ops_->first_non_finite(x, count); }
  size_t attention_workspace(size_t context, size_t head_size) const override {
    return ops_->attention_workspace(context, head_size);
  }
  size_t embedding_workspace(size_t vocabulary, size_t channels) const override {
    return ops_->embedding_workspace(vocabulary, channels);
  }
  size_t own_bytes() const override { return ops_->own_bytes(); }

 private:
  size_t when_;
  std::unique_ptr<Ops> ops_;
};

TEST(SelfTest, CatchesOneFlippedBit) {
  for (size_t when : {0, 3, 12, 30}) {  // in forward and backward passes of both units
    UnitRunner runner([&] { return std::make_unique<FlippingOps>(when); });
    try {
      self_test(runner);
      FAIL() << "the flip in matmul number " << when << " passed";
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.code, Exit::self_test);
    }
  }
}

}  // namespace
}  // namespace agent
