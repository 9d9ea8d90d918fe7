#include "self_test.h"

#include <gtest/gtest.h>

#include <bit>

#include "exit.h"
#include "kernels/forwarding_ops.h"
#include "system_info.h"

namespace agent {
namespace {

using kernels::Ops;

TEST(SelfTest, ReferenceGivesTheGoldenCommitments) {
  UnitRunner runner(kernels::make_reference_ops);
  for (const std::vector<GoldenUnit>& units : {golden_units(), golden_units_of_cards()}) {
    for (const GoldenUnit& golden : units) {
      const UnitPlan plan = runner.plan(golden.unit, golden.config, UINT64_MAX);
      const UnitResult result =
          runner.run(golden.unit, golden.config, plan, golden.weights, golden.read_tokens, [](uint64_t) {}, {});
      EXPECT_EQ(commitments_of(result), golden.commitments);
    }
  }
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
class FlippingOps : public kernels::ForwardingOps {
 public:
  explicit FlippingOps(size_t when) : ForwardingOps(kernels::make_cpu_ops(1)), when_(when) {}
  void matmul(const kernels::Matmul& op) override {
    inner_->matmul(op);
    float& value = op.c[(op.m - 1) * op.ldc + op.n - 1];
    if (when_-- == 0) value = std::bit_cast<float>(std::bit_cast<uint32_t>(value) ^ (1u << 12));
  }

 private:
  size_t when_;
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
