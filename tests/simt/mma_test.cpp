// The executor multiplies matrices as a warp does, and finds lanes that do not take part.
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "launcher.h"
#include "misuse_args.h"

namespace simt {
namespace {

using Words = std::vector<uint32_t>;

// For kernels of misuse.cpp: six registers of a and b and four sums for each thread.
void launch_mma(kernels::cuda::Launch launch, uint32_t number, const Words& registers, Words& sums, Order order) {
  const kernels::cuda::TestArgs args{.x = reinterpret_cast<const float*>(registers.data()),
                                     .y = reinterpret_cast<float*>(sums.data()),
                                     .number = number,
                                     .padding = 0};
  launch.args = &args, launch.args_bytes = sizeof args;
  SimtLauncher(order).launch(launch);
}

// Which element of a matrix a lane holds, in the words of the PTX ISA: "Matrix Fragments for mma.m8n8k16" and
// "... mma.m16n8k32", .s8.
struct Element {
  size_t row, column;
};
struct MmaShape {
  const char* kernel;
  size_t rows, terms;  // of 8 columns
  Element (*a)(size_t group_id, size_t thread_id_in_group, size_t i);
  Element (*b)(size_t group_id, size_t thread_id_in_group, size_t i);
  Element (*c)(size_t group_id, size_t thread_id_in_group, size_t i);
};
constexpr MmaShape mma_shapes[] = {
    {"test_mma_m8n8k16", 8, 16,  //
     [](size_t g, size_t t, size_t i) {
       return Element{g, t * 4 + i};
     },
     [](size_t g, size_t t, size_t i) {
       return Element{t * 4 + i, g};
     },
     [](size_t g, size_t t, size_t i) {
       return Element{g, t * 2 + i};
     }},
    {"test_mma_m16n8k32", 16, 32,
     [](size_t g, size_t t, size_t i) {
       return Element{i < 4 || (8 <= i && i < 12) ? g : g + 8, i < 8 ? t * 4 + (i & 3) : t * 4 + (i & 3) + 16};
     },
     [](size_t g, size_t t, size_t i) {
       return Element{i < 4 ? t * 4 + (i & 3) : t * 4 + (i & 3) + 16, g};
     },
     [](size_t g, size_t t, size_t i) {
       return Element{i < 2 ? g : g + 8, t * 2 + (i & 1)};
     }}};

// One product of random matrices, whose sums wrap now and then, in fragments.
void check_mma(const MmaShape& shape, std::mt19937& random) {
  std::vector<int8_t> a(shape.rows * shape.terms), b(shape.terms * 8);
  std::vector<int32_t> c(shape.rows * 8);
  for (int8_t& v : a) v = static_cast<int8_t>(random());
  for (int8_t& v : b) v = static_cast<int8_t>(random());
  for (int32_t& v : c) v = static_cast<int32_t>(random() % 2 ? 0x7fffff00 : random());
  Words registers(32 * 6, 0xdeadbeef), sums(32 * 4);
  const auto put = [&](size_t word, size_t i, int8_t digit) {
    reinterpret_cast<int8_t*>(&registers[word + i / 4])[i % 4] = digit;
  };
  const size_t sums_of_lane = shape.rows / 4;
  for (size_t lane = 0; lane < 32; ++lane) {
    const size_t g = lane >> 2, t = lane % 4;
    for (size_t i = 0; i < shape.rows * shape.terms / 32; ++i) {
      const auto [row, column] = shape.a(g, t, i);
      put(6 * lane, i, a[row * shape.terms + column]);
    }
    for (size_t i = 0; i < shape.terms / 4; ++i) {
      const auto [row, column] = shape.b(g, t, i);
      put(6 * lane + 4, i, b[row * 8 + column]);
    }
    for (size_t i = 0; i < sums_of_lane; ++i) {
      const auto [row, column] = shape.c(g, t, i);
      sums[4 * lane + i] = static_cast<uint32_t>(c[row * 8 + column]);
    }
  }
  launch_mma({.kernel = shape.kernel, .block = {32, 1, 1}}, 0, registers, sums,
             random() % 2 ? Order::upward : Order::downward);
  for (size_t lane = 0; lane < 32; ++lane) {
    for (size_t i = 0; i < sums_of_lane; ++i) {
      const auto [row, column] = shape.c(lane >> 2, lane % 4, i);
      int64_t expected = c[row * 8 + column];
      for (size_t term = 0; term < shape.terms; ++term) expected += a[row * shape.terms + term] * b[term * 8 + column];
      ASSERT_EQ(sums[4 * lane + i], static_cast<uint32_t>(expected)) << shape.kernel << ": " << row << ", " << column;
    }
  }
}

TEST(SimtMma, HasTheLayoutOfThePtxIsa) {
  std::mt19937 random(1);
  for (const MmaShape& shape : mma_shapes) {
    for (int i = 0; i < 20; ++i) check_mma(shape, random);
  }
}

std::string mma_failure(const char* kernel, uint32_t number, uint32_t threads) {
  const Words registers(6 * threads);
  Words sums(4 * threads);
  try {
    launch_mma({.kernel = kernel, .block = {threads, 1, 1}}, number, registers, sums, Order::upward);
  } catch (const Failure& failure) {
    return failure.what();
  }
  return "no failure";
}

void expect_mma_failure(const char* kernel, uint32_t number, uint32_t threads, const std::string& part) {
  const std::string message = mma_failure(kernel, number, threads);
  EXPECT_NE(message.find("is in the warp operation"), std::string::npos) << message;
  EXPECT_NE(message.find("mma.cuh:"), std::string::npos) << message;
  EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
}

TEST(SimtMma, NeedsAllLanes) {
  EXPECT_EQ(mma_failure("test_mma_missing_lane", 64, 64), "no failure");
  for (const uint32_t lane : {0, 17, 31, 32, 63})
    expect_mma_failure("test_mma_missing_lane", lane, 64, "thread (" + std::to_string(lane) + ", 0, 0) has ended");
  expect_mma_failure("test_mma_missing_lane", 64, 40, "the block has no lane 8 in this warp");
}

TEST(SimtMma, NeedsTheSameShapeInAllLanes) {
  EXPECT_EQ(mma_failure("test_mma_two_shapes", 32, 64), "no failure");
  expect_mma_failure("test_mma_two_shapes", 5, 32, "but thread (0, 0, 0) is in the warp operation");
}

}  // namespace
}  // namespace simt
