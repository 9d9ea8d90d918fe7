// What NVIDIA's compilers make of the kernels gives the committed digests of tests/kernels/golden.txt, and in `fast`
// the bits of tests/simt.
#include "golden.h"

#include <gtest/gtest.h>

#include <tuple>

#include "model_test_util.h"
#include "ops_test_util.h"
#include "simt_ops.h"
#include "variants.h"

namespace kernels::test {

void PrintTo(const GoldenUnit& unit, std::ostream* out) { *out << unit.name; }

namespace {

using Purpose = Trainer::Purpose;

template <class VariantAnd>
std::string name_of_test(const testing::TestParamInfo<VariantAnd>& test) {
  return std::string(std::get<0>(test.param).name) + "_" + std::get<1>(test.param).name;
}

using VariantAndUnit = std::tuple<Variant, GoldenUnit>;

// Short units by every variant, the others by one each.
std::vector<VariantAndUnit> variants_and_units() {
  std::vector<VariantAndUnit> all;
  const std::vector<Variant> of_each = variants();
  for (const GoldenUnit& unit : read_golden(GOLDEN_FILE)) {
    if (unit.name.ends_with("context_of_one")) continue;  // a minute each
    for (size_t i = 0; i < of_each.size(); ++i) {
      if (unit.name.ends_with("odd_shape") || unit.seed % of_each.size() == i) all.emplace_back(of_each[i], unit);
    }
  }
  return all;
}

class PtxGolden : public testing::TestWithParam<VariantAndUnit> {};

TEST_P(PtxGolden, GivesTheCommittedDigest) {
  const auto& [variant, unit] = GetParam();
  PtxOps ops(variant);
  EXPECT_EQ(golden_digest(unit, ops), unit.sha256);
}

INSTANTIATE_TEST_SUITE_P(, PtxGolden, testing::ValuesIn(variants_and_units()), name_of_test<VariantAndUnit>);

using VariantAndCase = std::tuple<Variant, Case>;

class PtxFast : public testing::TestWithParam<VariantAndCase> {};

Values fast_gradient(Ops& ops, const Case& of) {
  const Values weights = some_weights(of.config, 21);
  const std::vector<uint16_t> tokens = some_tokens(of.config, of.batch, of.context, 22);
  Values gradient(weights.size());
  Trainer trainer(of.config, of.batch, of.context, ops, {Purpose::gradient, false, Profile::fast});
  gradient.push_back(trainer.gradient(weights, {of.batch, of.context, tokens}, gradient));
  return gradient;
}

TEST_P(PtxFast, GivesTheBitsOfTheExecutor) {
  const auto& [variant, of] = GetParam();
  PtxOps compiled(variant);
  SimtOps executed(simt::Order::upward, variant.int8, variant.half);
  expect_same_bits(fast_gradient(compiled, of), fast_gradient(executed, of), variant.name);
}

const Case fast_cases[] = {
    {"gpt2_odd_everything", {2, 3, 15, 9, 13, 37, 1e-5f}, 5, 7},
    {"gpt2_head_size_64", {1, 2, 128, 70, 61, 96, 1e-5f}, 1, 66},
    {"llama_head_size_128", llama({1, 2, 1, 256, 40, 64, 96}), 1, 37},
};

std::vector<Variant> variants_with_halves() {
  std::vector<Variant> all = variants();
  std::erase_if(all, [](const Variant& variant) { return variant.half == HalfPrecision::none; });
  return all;
}

INSTANTIATE_TEST_SUITE_P(, PtxFast,
                         testing::Combine(testing::ValuesIn(variants_with_halves()), testing::ValuesIn(fast_cases)),
                         name_of_test<VariantAndCase>);

}  // namespace
}  // namespace kernels::test
