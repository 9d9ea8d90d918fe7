// Every engine gives the committed digests; see golden_digests.cpp.
#include "golden.h"

#include <gtest/gtest.h>

#include <fstream>

#include "model_test_util.h"

namespace kernels {
namespace {

TEST(Golden, EveryEngineGivesTheCommittedDigests) {
  std::ifstream in(GOLDEN_FILE);
  const nlohmann::ordered_json golden = nlohmann::ordered_json::parse(in);
  ASSERT_EQ(golden.at("profile"), "exact-fp32/1");
  ASSERT_FALSE(golden.at("units").empty());
  std::vector<test::Engine> engines = test::fast_engines();
  engines.push_back({"reference", make_reference_ops()});
  for (const auto& unit : golden.at("units"))
    for (const test::Engine& engine : engines)
      EXPECT_EQ(test::golden_digest(unit, *engine.ops), unit.at("sha256")) << unit.at("name") << ", " << engine.name;
}

}  // namespace
}  // namespace kernels
