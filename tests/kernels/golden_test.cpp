// Every engine gives the committed digests; see golden_digests.cpp.
#include "golden.h"

#include <gtest/gtest.h>

#include <fstream>

#include "model_test_util.h"

namespace kernels {
namespace {

TEST(Golden, EveryEngineGivesTheCommittedDigests) {
  std::vector<test::Engine> engines = test::fast_engines({1, 3});
  engines.push_back({"reference", make_reference_ops()});
  std::ifstream in(GOLDEN_FILE);
  size_t units = 0;
  test::GoldenUnit unit;
  for (std::string row; std::getline(in, row);) {
    if (!test::parse_golden(row, unit)) continue;
    ++units;
    for (const test::Engine& engine : engines) {
      EXPECT_EQ(test::golden_digest(unit, *engine.ops), unit.sha256) << unit.name << ", " << engine.name;
    }
  }
  EXPECT_GE(units, 10u);
}

}  // namespace
}  // namespace kernels
