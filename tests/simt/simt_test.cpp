// The executor runs what CUDA allows, and finds what it does not.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#include "cuda/elementwise_args.h"
#include "launcher.h"
#include "misuse_args.h"

namespace simt {
namespace {

using kernels::cuda::AddArgs;
using kernels::cuda::Launch;
using kernels::cuda::ScaleArgs;
using kernels::cuda::TestArgs;

Launch launch_of(const char* kernel, const TestArgs& args, uint32_t threads) {
  return {.kernel = kernel, .block = {threads, 1, 1}, .args = &args, .args_bytes = sizeof args};
}

constexpr Order both_orders[] = {Order::upward, Order::downward};

TEST(Simt, AddAndScale) {
  for (const Order order : both_orders) {
    std::vector<float> x(1000), y(1000, 0.5f);
    std::iota(x.begin(), x.end(), 0.0f);
    const AddArgs add{.count = 999, .x = x.data(), .y = y.data()};
    const ScaleArgs scale{.count = 999, .y = y.data(), .factor = 3, .padding = 0};
    SimtLauncher device(order);
    device.launch({.kernel = "add", .grid = {3, 1, 1}, .block = {128, 1, 1}, .args = &add, .args_bytes = sizeof add});
    device.launch(
        {.kernel = "scale", .grid = {9, 1, 1}, .block = {128, 1, 1}, .args = &scale, .args_bytes = sizeof scale});
    for (size_t i = 0; i < 999; ++i) ASSERT_EQ(y[i], (x[i] + 0.5f) * 3) << i;
    EXPECT_EQ(y[999], 0.5f);
  }
}

TEST(Simt, ShufflesBarriersAndThreeDimensions) {
  for (const Order order : both_orders) {
    std::vector<float> x(1024), y(24);
    std::iota(x.begin(), x.end(), 0.0f);
    const TestArgs args{.x = x.data(), .y = y.data(), .number = 0, .padding = 0};
    Launch launch = launch_of("test_block_sum", args, 1024);
    SimtLauncher device(order);
    device.launch(launch);
    EXPECT_EQ(y[0], 1023 * 512);
    launch.block[0] = 4, launch.block[1] = 8, launch.block[2] = 3;
    launch.grid[0] = 2, launch.grid[1] = 3, launch.grid[2] = 4;
    device.launch(launch);
    EXPECT_EQ(y, std::vector<float>(24, 95 * 48));
  }
}

TEST(Simt, BarriersOrderSharedMemory) {
  for (const Order order : both_orders) {
    std::vector<float> y(64);
    const TestArgs args{.x = nullptr, .y = y.data(), .number = 0, .padding = 0};
    SimtLauncher(order).launch(launch_of("test_barrier_instead", args, 64));
    EXPECT_EQ(y, std::vector<float>(64, 2));
  }
}

TEST(Simt, WarpOperations) {
  for (const Order order : both_orders) {
    for (uint32_t number = 0; number <= 6; ++number) {
      std::vector<float> y(32);
      const TestArgs args{.x = nullptr, .y = y.data(), .number = number, .padding = 0};
      SimtLauncher(order).launch(launch_of("test_warp_operations", args, 32));
      for (int lane = 0; lane < 32; ++lane) {
        const int expected[] = {107,
                                100 + (lane ^ 5),
                                100 + (lane < 3 ? lane : lane - 3),
                                100 + (lane > 28 ? lane : lane + 3),
                                0x49249249,
                                3,
                                100 + (lane ^ (lane < 16 ? 1 : 3))};
        EXPECT_EQ(y[static_cast<size_t>(lane)], static_cast<float>(expected[number])) << number << ", lane " << lane;
      }
    }
  }
}

TEST(Simt, Atomics) {
  std::vector<unsigned> counts = {0, 0, 1000, 0, 0, 0};
  const TestArgs args{.x = nullptr, .y = reinterpret_cast<float*>(counts.data()), .number = 0, .padding = 0};
  SimtLauncher().launch(launch_of("test_atomics", args, 100));
  EXPECT_EQ(counts, (std::vector<unsigned>{200, 99, 0, 0xffffffff, 100, 77}));
}

TEST(Simt, SharedMemoryIsPoisonedForEveryBlock) {
  std::vector<float> y(128, 0);
  const TestArgs args{.x = nullptr, .y = y.data(), .number = 0, .padding = 0};
  Launch launch = launch_of("test_shared_is_poisoned", args, 64);
  launch.grid[0] = 2;
  SimtLauncher().launch(launch);
  for (const float value : y) EXPECT_TRUE(std::isnan(value));
}

TEST(Simt, DynamicSharedMemoryHasBounds) {
  std::vector<float> y(64);
  const TestArgs args{.x = nullptr, .y = y.data(), .number = 0, .padding = 0};
  Launch launch = launch_of("test_dynamic_shared", args, 64);
  launch.shared_bytes = 256;
  SimtLauncher device;
  device.launch(launch);
  for (size_t i = 0; i < 64; ++i) EXPECT_EQ(y[i], static_cast<float>(63 - i));
  launch.shared_bytes = 252;
#if defined(__SANITIZE_ADDRESS__)
  EXPECT_DEATH(device.launch(launch), "use-after-poison");
#else
  EXPECT_THROW(device.launch(launch), Failure);
#endif
}

#if defined(__SANITIZE_ADDRESS__)
TEST(Simt, SharedArraysHaveBounds) {
  std::vector<float> y(4);
  const TestArgs good{.x = nullptr, .y = y.data(), .number = 1, .padding = 0};
  TestArgs bad = good;
  bad.number = 2;
  SimtLauncher device;
  device.launch(launch_of("test_beyond_shared", good, 4));
  EXPECT_DEATH(device.launch(launch_of("test_beyond_shared", bad, 4)),
               "global-buffer-overflow|runtime error");  // whichever sanitizer looks first
}
#endif

#if defined(__SANITIZE_THREAD__)
TEST(Simt, RacesAreFound) {
  std::vector<float> y(64);
  const TestArgs args{.x = nullptr, .y = y.data(), .number = 0, .padding = 0};
  const auto run = [&] {
    SimtLauncher().launch(launch_of("test_race", args, 64));
    std::exit(0);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(66), "ThreadSanitizer: data race");
}

TEST(Simt, RacesBetweenBlocksAreFound) {
  for (const Order order : both_orders) {
    for (const uint32_t blocks : {1, 2, 9}) {
      std::vector<float> y(1);
      TestArgs args{.x = nullptr, .y = y.data(), .number = 0, .padding = 0};
      Launch launch = launch_of("test_race_of_blocks", args, 2);
      launch.grid[1] = blocks;
      const auto run = [&] {
        // One after the other they do not race.
        for (int i = 0; i < 2; ++i) SimtLauncher(order).launch(launch);
        std::exit(0);
      };
      EXPECT_EXIT(run(), testing::ExitedWithCode(blocks == 1 ? 0 : 66),
                  blocks == 1 ? "" : "ThreadSanitizer: data race");
      args.number = 1;
      EXPECT_EXIT(run(), testing::ExitedWithCode(0), "");
    }
  }
}
#else
TEST(Simt, ARaceGivesOtherBitsInTheOtherOrder) {
  std::vector<float> results[2];
  for (const Order order : both_orders) {
    std::vector<float> y(64);
    const TestArgs args{.x = nullptr, .y = y.data(), .number = 0, .padding = 0};
    SimtLauncher(order).launch(launch_of("test_race", args, 64));
    for (const float value : y) results[order == Order::downward].push_back(std::isnan(value) ? -1 : value);
  }
  EXPECT_NE(results[0], results[1]);
}
#endif

// The message of what a kernel did wrong.
std::string failure(const char* kernel, uint32_t number, uint32_t threads) {
  std::vector<float> y(threads);
  const TestArgs args{.x = nullptr, .y = y.data(), .number = number, .padding = 0};
  try {
    SimtLauncher().launch(launch_of(kernel, args, threads));
  } catch (const Failure& failure) {
    return failure.what();
  }
  return "no failure";
}

void expect_failure(const char* kernel, uint32_t number, uint32_t threads, std::initializer_list<const char*> parts) {
  const std::string message = failure(kernel, number, threads);
  for (const char* part : parts) EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
}

TEST(Simt, BarrierDivergence) {
  for (const uint32_t number : {0, 1, 31, 63}) {
    expect_failure("test_missing_thread", number, 64,
                   {"kernel test_missing_thread, block (0, 0, 0): barrier divergence: ", "misuse.cpp:",
                    ("thread (" + std::to_string(number) + ", 0, 0) has ended").c_str()});
  }
  EXPECT_EQ(failure("test_missing_thread", 64, 64), "no failure");
  expect_failure("test_two_barriers", 40, 64, {"barrier divergence: thread (0, 0, 0) waits at", "thread (40, 0, 0)"});
  EXPECT_EQ(failure("test_two_barriers", 64, 64), "no failure");
}

TEST(Simt, WrongMasks) {
  expect_failure("test_ended_lane", 20, 32, {"warp operation", "misuse.cpp", "0xffffffff", "(20, 0, 0) has ended"});
  expect_failure("test_ended_lane", 64, 50, {"the block has no lane 18 in this warp"});
  EXPECT_EQ(failure("test_ended_lane", 64, 64), "no failure");
  expect_failure("test_mask_without_itself", 0, 32, {"thread (0, 0, 0)", "mask 0xfffffff0, which leaves it out"});
  expect_failure("test_lane_at_barrier", 5, 32, {"warp operation", "(5, 0, 0) waits at the barrier"});
  expect_failure("test_reads_outside_mask", 0, 32, {"0x0000ffff and reads lane 20"});
}

TEST(Simt, CopiesAreThereOnceTheThreadHasWaited) {
  const std::vector<float> x = {1, 2, 3, 4};
  std::vector<float> y(8);
  TestArgs args{.x = x.data(), .y = y.data(), .number = 0, .padding = 0};
  SimtLauncher device;
  device.launch(launch_of("test_copies", args, 2));
  EXPECT_EQ(y, (std::vector<float>{1, 2, 3, 4, 0, 0, 0, 0}));
  args.number = 1;
  device.launch(launch_of("test_copies", args, 2));
  for (const float value : y) EXPECT_TRUE(std::isnan(value));
  expect_failure("test_copies", 2, 2, {"(0, 0, 0) has ended and has not waited for its copies"});
}

// What a failed kernel leaves behind disturbs no other.
TEST(Simt, GoesOnAfterAFailure) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_NE(failure("test_missing_thread", 500, 1000), "no failure");
    EXPECT_EQ(failure("test_missing_thread", 1000, 1000), "no failure");
  }
}

TEST(Simt, RefusesWhatNoDeviceTakes) {
  std::vector<float> y(64);
  const TestArgs args{.x = nullptr, .y = y.data(), .number = 64, .padding = 0};
  SimtLauncher device;
  const Launch good = launch_of("test_missing_thread", args, 64);
  device.launch(good);
  const auto refused = [&](auto change) {
    Launch launch = good;
    change(launch);
    EXPECT_THROW(device.launch(launch), std::invalid_argument);
  };
  refused([](Launch& launch) { launch.kernel = "nothing"; });
  refused([](Launch& launch) { launch.block[0] = 0; });
  refused([](Launch& launch) { launch.block[1] = 17; });
  refused([](Launch& launch) { launch.block[0] = 1, launch.block[2] = 65; });
  refused([](Launch& launch) { launch.grid[1] = 65536; });
  refused([](Launch& launch) { launch.shared_bytes = 228 * 1024; });
  refused([](Launch& launch) { launch.args_bytes -= 4; });
}

TEST(Simt, DeviceMemoryIsPoisoned) {
  SimtLauncher device;
  auto* memory = static_cast<float*>(device.allocate(12));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory) % 256, 0u);
  float host[3] = {};
  device.read(host, memory, sizeof host);
  for (const float value : host) EXPECT_TRUE(std::isnan(value));
  device.free(memory);
  device.free(nullptr);
}

}  // namespace
}  // namespace simt
