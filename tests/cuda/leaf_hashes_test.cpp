// The hashes of a segment's leaves by the CUDA kernel against OpenSSL's.
#include <gtest/gtest.h>

#include <cstring>

#include "cuda_test_util.h"
#include "protocol/digest.h"
#include "simt_ops.h"

namespace kernels::cuda::test {
namespace {

protocol::Digest expected_hash(std::span<const float> leaf) {
  std::vector<uint8_t> bytes(1 + leaf.size_bytes());
  std::memcpy(bytes.data() + 1, leaf.data(), leaf.size_bytes());
  return protocol::sha256(bytes);
}

// Around the sizes where padding needs a further block of 16 words; more leaves than a block of threads has.
TEST(CudaLeafHashes, AreSha256OfAZeroByteAndTheLeaf) {
  const Values x = kernels::test::Random(3).values(700);
  for (const simt::Order order : both_orders) {
    kernels::test::SimtOps ops(order);
    for (const size_t leaf : {1, 12, 13, 14, 15, 16, 29, 30, 45, 690}) {
      const size_t leaves = (x.size() + leaf - 1) / leaf;
      std::vector<protocol::Digest> hashes(leaves + 1);
      ops.leaf_hashes(x.data(), x.size(), leaf, hashes.data()->data());
      for (size_t i = 0; i < leaves; ++i) {
        const auto values = std::span(x).subspan(i * leaf, std::min(leaf, x.size() - i * leaf));
        ASSERT_EQ(hashes[i], expected_hash(values)) << "leaf " << i << " of " << leaf;
      }
      EXPECT_EQ(hashes[leaves], protocol::Digest{}) << "nothing behind the last";
    }
  }
}

TEST(CudaLeafHashes, ALeafOfASegment) {
  const Values x = kernels::test::Random(4).values(protocol::segment_leaf_values);
  kernels::test::SimtOps ops(simt::Order::upward);
  protocol::Digest hash;
  ops.leaf_hashes(x.data(), x.size(), protocol::segment_leaf_values, hash.data());
  EXPECT_EQ(hash, expected_hash(x));
  EXPECT_THROW(ops.leaf_hashes(x.data(), x.size(), 1 << 27, hash.data()), std::invalid_argument);
  EXPECT_THROW(make_reference_ops()->leaf_hashes(x.data(), x.size(), 1, hash.data()), std::logic_error);
}

}  // namespace
}  // namespace kernels::cuda::test
