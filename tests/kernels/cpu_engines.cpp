// The engines of kernels_test: every path of this machine, at several thread counts.
#include "ops_test_util.h"

namespace kernels {

std::vector<test::Engine> test::engines_under_test() {
  std::vector<Engine> engines;
  for (const Simd simd : usable_simd()) {
    for (const size_t threads : {1, 2, 3, 7}) {
      engines.push_back({name_of(simd) + ", threads " + std::to_string(threads), make_cpu_ops(threads, simd)});
    }
  }
  return engines;
}

namespace {

TEST(Ops, SimdFromEnvironment) {
  for (const Simd simd : usable_simd()) {
    setenv("GRADMINER_SIMD", name_of(simd).c_str(), 1);
    EXPECT_EQ(simd_from_environment(), simd);
    EXPECT_EQ(make_cpu_ops(1, simd)->name(), name_of(simd));
  }
  setenv("GRADMINER_SIMD", "avx9", 1);
  EXPECT_THROW(simd_from_environment(), std::invalid_argument);
  unsetenv("GRADMINER_SIMD");
  EXPECT_EQ(simd_from_environment(), Simd::automatic);
  EXPECT_EQ(make_cpu_ops(1)->name(), name_of(usable_simd().front()));
  EXPECT_EQ(usable_simd().back(), Simd::portable);
}

}  // namespace
}  // namespace kernels
