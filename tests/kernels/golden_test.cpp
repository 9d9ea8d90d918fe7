// Every engine gives the committed digests; see golden_digests.cpp.
#include "golden.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <ostream>
#include <vector>

namespace kernels {
namespace {

struct Engine {
  std::string name;
  std::function<std::unique_ptr<Ops>()> make;
};
void PrintTo(const Engine& engine, std::ostream* out) { *out << engine.name; }

// The reference first: its SSE code crawls once unoptimised AVX code (cross/) has left the registers' upper halves in
// use.
std::vector<Engine> engines() {
  std::vector<Engine> engines = {{"reference", make_reference_ops}};
  for (const size_t threads : {1, 3}) {
    for (const Simd simd : usable_simd()) {
      engines.push_back({name_of(simd) + "_threads_" + std::to_string(threads),
                         [threads, simd] { return make_cpu_ops(threads, simd); }});
    }
  }
  return engines;
}

class Golden : public testing::TestWithParam<Engine> {};

TEST_P(Golden, GivesTheCommittedDigests) {
  const std::vector<test::GoldenUnit> units = test::read_golden(GOLDEN_FILE);
  EXPECT_GE(units.size(), 10u);
  const std::unique_ptr<Ops> ops = GetParam().make();
  for (const test::GoldenUnit& unit : units) EXPECT_EQ(test::golden_digest(unit, *ops), unit.sha256) << unit.name;
}

INSTANTIATE_TEST_SUITE_P(Engines, Golden, testing::ValuesIn(engines()),
                         [](const auto& engine) { return engine.param.name; });

}  // namespace
}  // namespace kernels
