// What the tests of CUDA operations share.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "launcher.h"
#include "ops_test_util.h"

namespace kernels::cuda::test {

using kernels::test::joined;
using kernels::test::poisoned;
using kernels::test::Random;
using kernels::test::Values;

constexpr simt::Order both_orders[] = {simt::Order::upward, simt::Order::downward};

// The same bits, NaNs being alike.
inline void expect_same_bits(const Values& got, const Values& expected, const std::string& what) {
  ASSERT_EQ(got.size(), expected.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_TRUE(std::memcmp(&got[i], &expected[i], sizeof(float)) == 0 ||
                (got[i] != got[i] && expected[i] != expected[i]))
        << what << ", element " << i << ": " << got[i] << " for " << expected[i];
  }
}

}  // namespace kernels::cuda::test
