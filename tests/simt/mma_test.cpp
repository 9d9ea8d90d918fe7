// The executor multiplies matrices as a warp does, and finds lanes that do not take part.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "launcher.h"
#include "misuse_args.h"
#include "nearest_half.h"

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

// "Matrix Fragments for mma.m16n8k16 with floating point type" and "... mma.m16n8k8", .bf16 and .f16.
Element of_sums(size_t g, size_t t, size_t i) { return {i < 2 ? g : g + 8, t * 2 + (i & 1)}; }
constexpr MmaShape float_shapes[] = {
    {"test_mma_m16n8k16_bf16", 16, 16,
     [](size_t g, size_t t, size_t i) {
       return Element{i < 2 || (4 <= i && i < 6) ? g : g + 8, t * 2 + (i & 1) + (i < 4 ? 0 : 8)};
     },
     [](size_t g, size_t t, size_t i) {
       return Element{t * 2 + (i & 1) + (i < 2 ? 0 : 8), g};
     },
     of_sums},
    {"test_mma_m16n8k8_fp16", 16, 8,
     [](size_t g, size_t t, size_t i) {
       return Element{i < 2 ? g : g + 8, t * 2 + (i & 1)};
     },
     [](size_t g, size_t t, size_t i) {
       return Element{t * 2 + i, g};
     },
     of_sums}};

// Of a number that has them: sign, 5 or 8 bits of exponent, and fraction.
uint32_t half_of(float x, bool bf16) {
  if (bf16 || x == 0) return std::bit_cast<uint32_t>(x) >> 16;
  int exponent = 0;
  const float fraction = std::frexp(std::abs(x), &exponent);  // 0.5 to 1
  return (x < 0 ? 0x8000u : 0u) | static_cast<uint32_t>(exponent + 14) << 10 |
         (static_cast<uint32_t>(fraction * 2048) & 1023);
}

// One product of random matrices, whose sums are exact, in fragments.
void check_float_mma(const MmaShape& shape, bool bf16, std::mt19937& random) {
  const auto number = [&random] { return static_cast<float>(static_cast<int>(random() % 513) - 256) / 8; };
  const auto short_number = [&random] { return static_cast<float>(static_cast<int>(random() % 255) - 127) / 64; };
  std::vector<float> a(shape.rows * shape.terms), b(shape.terms * 8), c(shape.rows * 8);
  for (float& v : a) v = short_number();
  for (float& v : b) v = short_number();
  for (float& v : c) v = number();
  Words registers(32 * 6, 0x7fc0deadu), sums(32 * 4);
  const auto put = [&](size_t word, size_t i, float x) {
    uint32_t& to = registers[word + i / 2];
    to = i % 2 == 0 ? half_of(x, bf16) : to | half_of(x, bf16) << 16;
  };
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
    for (size_t i = 0; i < 4; ++i) {
      const auto [row, column] = shape.c(g, t, i);
      sums[4 * lane + i] = std::bit_cast<uint32_t>(c[row * 8 + column]);
    }
  }
  launch_mma({.kernel = shape.kernel, .block = {32, 1, 1}}, 0, registers, sums,
             random() % 2 ? Order::upward : Order::downward);
  for (size_t lane = 0; lane < 32; ++lane) {
    for (size_t i = 0; i < 4; ++i) {
      const auto [row, column] = shape.c(lane >> 2, lane % 4, i);
      float expected = c[row * 8 + column];
      for (size_t term = 0; term < shape.terms; ++term) expected += a[row * shape.terms + term] * b[term * 8 + column];
      ASSERT_EQ(std::bit_cast<float>(sums[4 * lane + i]), expected) << shape.kernel << ": " << row << ", " << column;
    }
  }
}

TEST(SimtMma, HasTheLayoutOfThePtxIsaForFloats) {
  std::mt19937 random(2);
  for (int i = 0; i < 20; ++i) {
    check_float_mma(float_shapes[0], true, random);
    check_float_mma(float_shapes[1], false, random);
  }
}

// A half as a number, from the definition of its bits.
double number_of(uint32_t half, int fraction_bits, int bias) {
  const int exponent = static_cast<int>((half & 0x7fff) >> fraction_bits), all = (1 << (15 - fraction_bits)) - 1;
  const double fraction = std::ldexp(half & ((1u << fraction_bits) - 1), -fraction_bits);
  double x = std::ldexp(exponent == 0 ? fraction : 1 + fraction, std::max(exponent, 1) - bias);
  if (exponent == all) x = fraction == 0 ? INFINITY : NAN;
  return half >> 15 ? -x : x;
}

TEST(SimtMma, HalvesAreTheNearest) {
  std::mt19937 random(3);
  std::vector<uint32_t> x(64 * 64);
  for (uint32_t& bits : x) bits = static_cast<uint32_t>(random());
  for (size_t i = 0; i < x.size(); i += 2)  // within the range of fp16, and midpoints of both
    x[i] = (x[i] & 0x81ffe000u) + 0x36000000u + (random() % 4 == 0 ? 0x1000u : random() % 0x2000u);
  for (size_t i = 0; i < x.size(); i += 8) x[i] = (x[i] & 0xffff0000u) | 0x8000u;
  const float edges[] = {0.0f,     -0.0f,    65504,      65519.996f, 65520,        -65536,  INFINITY,  -INFINITY,
                         0x1p-24f, 0x1p-25f, 0x1.8p-25f, 0x1p-14f,   0x1.ffep-15f, 3.4e38f, 0x1p-140f, NAN};
  for (size_t i = 0; i < std::size(edges); ++i) x[i] = std::bit_cast<uint32_t>(edges[i]);
  for (size_t first = 0; first < x.size(); first += 64) {
    const Words in(x.begin() + static_cast<long>(first), x.begin() + static_cast<long>(first) + 64);
    Words words(64);
    launch_mma({.kernel = "test_halves", .block = {32, 1, 1}}, 0, in, words, Order::upward);
    for (size_t i = 0; i < 64; ++i) {
      const float value = std::bit_cast<float>(in[i]);
      const uint32_t shift = i % 2 * 16, bf16 = words[i / 2 * 2] >> shift & 0xffff;
      const uint32_t fp16 = words[i / 2 * 2 + 1] >> shift & 0xffff;
      const double of_bf16 = number_of(bf16, 7, 127), of_fp16 = number_of(fp16, 10, 15);
      if (std::isnan(value)) {
        EXPECT_TRUE(std::isnan(of_bf16) && std::isnan(of_fp16));
        continue;
      }
      EXPECT_EQ(of_bf16, nearest_half(value, bf16_format)) << std::hexfloat << value;
      EXPECT_EQ(of_fp16, nearest_half(value, fp16_format)) << std::hexfloat << value;
      EXPECT_EQ(bf16 >> 15, in[i] >> 31);
      EXPECT_EQ(fp16 >> 15, in[i] >> 31);
    }
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

// "Warp-level matrix load instruction: ldmatrix" of the PTX ISA: "thread 0 holds the first fragment", two elements of
// row 0, thread 4 of row 1; with .trans of columns.
TEST(SimtMma, LoadsMatricesAsThePtxIsaHasThem) {
  Words rows(32 * 4), registers(32 * 4);
  const auto element = [&](size_t matrix, size_t row, size_t column) -> uint32_t {
    return rows[4 * (8 * matrix + row) + column / 2] >> column % 2 * 16 & 0xffff;
  };
  std::mt19937 random(3);
  for (uint32_t& word : rows) word = static_cast<uint32_t>(random());
  for (const uint32_t transposed : {0u, 1u}) {
    launch_mma({.kernel = "test_load_matrices", .block = {32, 1, 1}}, transposed, rows, registers, Order::upward);
    for (size_t lane = 0; lane < 32; ++lane) {
      for (size_t i = 0; i < 4; ++i) {
        const size_t line = lane / 4, first = lane % 4 * 2;
        const uint32_t expected = transposed ? element(i, first, line) | element(i, first + 1, line) << 16
                                             : element(i, line, first) | element(i, line, first + 1) << 16;
        EXPECT_EQ(registers[4 * lane + i], expected) << lane << ", " << i;
      }
    }
  }
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
