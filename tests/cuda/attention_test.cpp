// attention.cu gives the reference's bits, forward and backward, at the edges of its tiles and with wide heads.
#include <gtest/gtest.h>

#include <span>
#include <stdexcept>

#include "cuda_host/attention_launch.h"
#include "cuda_test_util.h"
#include "simt_ops.h"

namespace kernels::cuda {
namespace {

using kernels::test::attention;
using kernels::test::AttentionCase;
using kernels::test::SimtOps;
using test::both_orders;
using test::expect_same_bits;
using test::Random;
using test::Values;

void check_attention(Random& random, const AttentionCase& shape, std::span<const simt::Order> orders = both_orders) {
  const Values qkv = random.values(shape.inputs()), dout = random.values(shape.outputs());
  const Values expected = attention(*make_reference_ops(), shape, qkv, dout);
  for (const simt::Order order : orders) {
    SimtOps ops(order);
    expect_same_bits(attention(ops, shape, qkv, dout), expected, shape.text());
  }
}

TEST(CudaAttention, EdgesOfTiles) {
  Random random(2);
  for (const size_t context : {1, 63, 64, 128}) check_attention(random, {1, context, 2, 1, 16});
  for (const size_t head_size : {1, 17, 64, 65, 129}) check_attention(random, {1, 65, 1, 1, head_size});
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
