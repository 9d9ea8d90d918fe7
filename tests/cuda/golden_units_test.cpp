// Whole training units through the CUDA kernels give the committed digests of tests/kernels/golden.txt.
#include <gtest/gtest.h>

#include <ostream>

#include "golden.h"
#include "simt_ops.h"

namespace kernels::test {

void PrintTo(const GoldenUnit& unit, std::ostream* out) { *out << unit.name; }

namespace {

class CudaGolden : public testing::TestWithParam<GoldenUnit> {};

TEST_P(CudaGolden, GivesTheCommittedDigest) {
  const uint64_t seed = GetParam().seed;
  const auto multiprocessors = static_cast<uint32_t>(1 + seed % 3 * 41);  // they decide about tiles
  SimtOps ops(seed % 2 == 0 ? simt::Order::upward : simt::Order::downward, cuda::all_int8_arithmetics[seed / 2 % 4],
              HalfPrecision::bf16, multiprocessors);
  EXPECT_EQ(golden_digest(GetParam(), ops), GetParam().sha256);
}

INSTANTIATE_TEST_SUITE_P(Units, CudaGolden, testing::ValuesIn(read_golden(GOLDEN_FILE)),
                         [](const auto& unit) { return unit.param.name; });

}  // namespace
}  // namespace kernels::test
