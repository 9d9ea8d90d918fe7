// What the tests of CUDA operations share.
#pragma once

#include "launcher.h"
#include "ops_test_util.h"

namespace kernels::cuda::test {

using kernels::test::expect_same_bits;
using kernels::test::poisoned;
using kernels::test::Random;
using kernels::test::Values;

constexpr simt::Order both_orders[] = {simt::Order::upward, simt::Order::downward};

}  // namespace kernels::cuda::test
