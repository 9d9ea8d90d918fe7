// attention.cu gives the reference's bits, forward and backward, at the edges of its tiles and with wide heads.
#include <gtest/gtest.h>

#include <span>
#include <stdexcept>
#include <string>

#include "cuda_host/attention_launch.h"
#include "same_bits.h"

namespace kernels::cuda {
namespace {

using test::both_orders;
using test::expect_same_bits;
using test::joined;
using test::poisoned;
using test::Random;
using test::Values;

struct AttentionCase {
  size_t sequences, context, heads, kv_heads, head_size;
};

template <class Forward, class Backward>
Values compute_attention(const AttentionCase& shape, const Values& qkv, const Values& dout, Forward forward,
                         Backward backward) {
  const size_t queries = shape.sequences * shape.heads * shape.context;
  Values out = poisoned(dout.size()), max = poisoned(queries), inverse = poisoned(queries);
  Values dqkv = poisoned(qkv.size()), workspace(2 * shape.context * shape.context);
  forward({.sequences = shape.sequences,
           .context = shape.context,
           .heads = shape.heads,
           .kv_heads = shape.kv_heads,
           .head_size = shape.head_size,
           .qkv = qkv.data(),
           .out = out.data(),
           .row_max = max.data(),
           .inverse_sum = inverse.data(),
           .workspace = workspace.data()});
  backward({.sequences = shape.sequences,
            .context = shape.context,
            .heads = shape.heads,
            .kv_heads = shape.kv_heads,
            .head_size = shape.head_size,
            .qkv = qkv.data(),
            .out = out.data(),
            .row_max = max.data(),
            .inverse_sum = inverse.data(),
            .dout = dout.data(),
            .dqkv = dqkv.data(),
            .workspace = workspace.data()});
  return joined({out, max, inverse, dqkv});
}

void check_attention(Random& random, const AttentionCase& shape, std::span<const simt::Order> orders = both_orders) {
  const size_t tokens = shape.sequences * shape.context;
  const Values qkv = random.values(tokens * (shape.heads + 2 * shape.kv_heads) * shape.head_size);
  const Values dout = random.values(tokens * shape.heads * shape.head_size);
  const auto reference = make_reference_ops();
  const Values expected = compute_attention(
      shape, qkv, dout, [&](const AttentionForward& op) { reference->attention_forward(op); },
      [&](const AttentionBackward& op) { reference->attention_backward(op); });
  for (const simt::Order order : orders) {
    simt::SimtLauncher device(order);
    const Values got = compute_attention(
        shape, qkv, dout, [&](const AttentionForward& op) { launch_attention_forward(op, device); },
        [&](const AttentionBackward& op) { launch_attention_backward(op, device); });
    expect_same_bits(got, expected,
                     "context " + std::to_string(shape.context) + ", " + std::to_string(shape.heads) + " heads of " +
                         std::to_string(shape.head_size) + " on " + std::to_string(shape.kv_heads));
  }
}

TEST(CudaAttention, EdgesOfTiles) {
  Random random(2);
  for (const size_t context : {1, 63, 64, 128}) check_attention(random, {1, context, 2, 1, 16});
  for (const size_t head_size : {1, 17, 64, 65, 129})
    check_attention(random, {1, 65, 1, 1, head_size});
  check_attention(random, {2, 65, 4, 2, 72});
}

// The kernels' other ways through several chunks are in tests/kernels/ops_test.cpp.
TEST(CudaAttention, WideHeadsOverTwoChunks) {
  Random random(3);
  check_attention(random, {1, 2050, 1, 1, 66}, {both_orders, 1});
}

TEST(CudaAttention, RefusesHeadsOfSeveralChunks) {
  simt::SimtLauncher device;
  AttentionForward forward{.sequences = 1, .context = 1, .heads = 1, .kv_heads = 1, .head_size = 2049};
  AttentionBackward backward{.sequences = 1, .context = 1, .heads = 1, .kv_heads = 1, .head_size = 2049};
  EXPECT_THROW(launch_attention_forward(forward, device), std::invalid_argument);
  EXPECT_THROW(launch_attention_backward(backward, device), std::invalid_argument);
}

}  // namespace
}  // namespace kernels::cuda
