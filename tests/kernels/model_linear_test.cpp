// Into which pieces a linear layer cuts its products.
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "kernels/forwarding_ops.h"
#include "model/linear.h"

namespace kernels {
namespace {

using Pieces = std::vector<std::pair<size_t, size_t>>;

// Notes the rows and columns of products, and computes none.
class NotingOps final : public ForwardingOps {
 public:
  explicit NotingOps(bool in_host_memory) : ForwardingOps(make_reference_ops()), in_host_memory_(in_host_memory) {}

  bool in_host_memory() const override { return in_host_memory_; }
  void matmul(const Matmul& op) override { pieces.emplace_back(op.m, op.n); }

  Pieces pieces;

 private:
  const bool in_host_memory_;
};

// The gradients of weight and input, of 2^33 multiplications each.
Pieces backward_pieces(bool in_host_memory) {
  constexpr size_t side = 2048;
  NotingOps ops(in_host_memory);
  Arena arena;
  const Linear layer(side, side, Linear::Layout::inputs_outputs,
                     LinearPlan(Arithmetic::fp32, {.tokens = side, .context = side, .block = side, .backward = true},
                                side, ops, arena));
  std::vector<float> any(side * side);
  layer.backward(any.data(), any.data(), any.data(), side, any.data(), any.data(), nullptr, {});
  return ops.pieces;
}

TEST(Linear, ProductsAreCutSoThatCancelIsHeard) { EXPECT_EQ(backward_pieces(true), Pieces(4, {1024, 2048})); }

TEST(Linear, ACardGetsThemWhole) { EXPECT_EQ(backward_pieces(false), Pieces(2, {2048, 2048})); }

}  // namespace
}  // namespace kernels
