// Every engine gives the committed digests; see golden_digests.cpp.
#include "golden.h"

#include <gtest/gtest.h>

#include <fstream>

#include "model_test_util.h"

namespace kernels {
namespace {

std::vector<test::GoldenUnit> golden_units() {
  std::ifstream in(GOLDEN_FILE);
  std::vector<test::GoldenUnit> units;
  test::GoldenUnit unit;
  for (std::string row; std::getline(in, row);) {
    if (test::parse_golden(row, unit)) units.push_back(unit);
  }
  return units;
}

void expect_digests(const test::Engine& engine) {
  for (const test::GoldenUnit& unit : golden_units()) {
    EXPECT_EQ(test::golden_digest(unit, *engine.ops), unit.sha256) << unit.name << ", " << engine.name;
  }
}

TEST(Golden, EveryEngineGivesTheCommittedDigests) {
  EXPECT_GE(golden_units().size(), 10u);
  // First: its SSE code crawls once unoptimised AVX code (cross/) has left the registers' upper halves in use.
  expect_digests({"reference", make_reference_ops()});
  for (const test::Engine& engine : test::fast_engines({1, 3})) expect_digests(engine);
}

}  // namespace
}  // namespace kernels
