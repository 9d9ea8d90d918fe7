// What the tests of whole operations do not reach: the elementary functions everywhere, and grids smaller than the
// work.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cuda/activations_args.h"
#include "cuda_host/shape.h"
#include "device_code_args.h"
#include "launcher.h"
#include "ops_test_util.h"
#include "reference/elementary.h"

namespace kernels::cuda {
namespace {

using test::poisoned;
using test::Values;

// A float of every 65,521 of all, and those around the places where a definition changes.
Values inputs() {
  Values x;
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 65'521)
    x.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  for (const float edge : {0.0f, -87.0f, 0x1.62e42ep+6f, 10.0f, -10.0f, 0x1p-126f, 0x1.6a09e6p-1f, 1.0f, INFINITY}) {
    for (const float sign : {1.0f, -1.0f}) {
      const uint32_t bits = std::bit_cast<uint32_t>(edge * sign);
      for (uint32_t near = bits - 64; near != bits + 64; ++near) x.push_back(std::bit_cast<float>(near));
    }
  }
  return x;
}

void expect_same_everywhere(const char* name, const Values& x, const Values& got, float (*expected)(float)) {
  for (size_t i = 0; i < x.size(); ++i) {
    const float wanted = expected(x[i]);
    ASSERT_TRUE(std::bit_cast<uint32_t>(got[i]) == std::bit_cast<uint32_t>(wanted) ||
                (std::isnan(got[i]) && std::isnan(wanted)))
        << name << "(" << std::hexfloat << x[i] << "): " << got[i] << " for " << wanted;
  }
}

TEST(CudaDeviceCode, ElementaryFunctionsGiveTheReferencesBits) {
  const Values x = inputs();
  Values exps = poisoned(x.size()), tanhs = exps, logs = exps;
  const TestElementaryArgs args{
      .count = x.size(), .x = x.data(), .exps = exps.data(), .tanhs = tanhs.data(), .logs = logs.data()};
  simt::SimtLauncher device;
  launch(device, "test_elementary", over_elements(x.size()), args);
  expect_same_everywhere("exp", x, exps, reference::exp);
  expect_same_everywhere("tanh", x, tanhs, reference::tanh);
  expect_same_everywhere("log", x, logs, reference::log);
}

// Every thread has a place of its own; lanes in pairs have the same column, and other pairs the same row, so that
// shared memory serves them together (tile.cuh).
TEST(CudaDeviceCode, LanesInPairsReadTheSame) {
  for (const uint32_t across : {8u, 16u}) {
    const uint32_t threads = across * across;
    std::vector<uint32_t> rows(threads), columns(threads);
    const TestPlacesArgs args{.rows = rows.data(), .columns = columns.data()};
    simt::SimtLauncher device;
    launch(device, ("test_places_" + std::to_string(across)).c_str(), Shape{.block = {threads, 1, 1}}, args);
    std::set<std::pair<uint32_t, uint32_t>> places;
    for (uint32_t t = 0; t < threads; ++t) {
      EXPECT_LT(rows[t], across);
      EXPECT_LT(columns[t], across);
      EXPECT_TRUE(places.emplace(rows[t], columns[t]).second) << t;
      EXPECT_EQ(columns[t], columns[t ^ 1]) << t;
      EXPECT_EQ(rows[t], rows[t ^ 2]) << t;
    }
  }
}

TEST(CudaDeviceCode, AGridSmallerThanTheMatrixDoesAllOfIt) {
  const size_t rows = 7, inner = 100;
  const Values gate_up = test::Random(1).values(2 * rows * inner);
  Values expected = poisoned(rows * inner), got = expected;
  make_reference_ops()->swiglu_forward({.rows = rows, .inner = inner, .gate_up = gate_up.data(), .y = expected.data()});
  const SwigluForwardArgs args{
      .rows = rows, .inner = inner, .gate_up = gate_up.data(), .y = got.data(), .aligned = 1, .padding = 0};
  simt::SimtLauncher device;
  launch(device, "swiglu_forward", Shape{.grid = {2, 3, 1}, .block = {32, 1, 1}}, args);
  EXPECT_EQ(got, expected);
}

}  // namespace
}  // namespace kernels::cuda
