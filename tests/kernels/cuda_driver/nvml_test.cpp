// NVML, against one without cards (tests/fakes/fake_nvml.h).
#include "cuda_driver/nvml.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "fake_library.h"
#include "fake_nvml.h"
#include "held_threads.h"
#include "kernels/card_sensors.h"

namespace kernels::cuda {
namespace {

constexpr char first_bus[] = "0000:02:00.0", second_bus[] = "0000:0A:00.0";

std::string refusal_of(const char* library) {
  return fakes::error_of<CudaError>([&] { Nvml{library}; });
}

class NvmlTest : public testing::Test {
 protected:
  void SetUp() override {
    fake_ = &fakes::seen_by<fakes::FakeNvmlFunction>(FAKE_NVML, "fake_nvml");
    *fake_ = {};
    for (const char* variable : {"FAKE_NVML_CARDS", "FAKE_NVML_FAIL", "FAKE_NVML_HANG"}) unsetenv(variable);
  }
  void TearDown() override { SetUp(); }

  // Two cards, the first of which has these values.
  static CardSensors open(const std::string& values) {
    setenv("FAKE_NVML_CARDS",
           (std::string(second_bus) + ",60,30,90000,120000,1500,7000,0;" + first_bus + "," + values).c_str(), 1);
    return open_card_sensors(limit);
  }
  static CardHealth health(const std::string& values) { return open(values).read(first_bus); }

  static constexpr std::chrono::milliseconds limit{30};
  fakes::FakeNvml* fake_ = nullptr;
};

TEST_F(NvmlTest, IsMissing) {
  EXPECT_EQ(refusal_of("libnvidia-ml_that_is_not_there.so.1"),
            "no NVML (libnvidia-ml_that_is_not_there.so.1: cannot open shared object file: No such file or directory)");
}

TEST_F(NvmlTest, LacksAFunction) {
  EXPECT_EQ(refusal_of(FAKE_NVML_DAMAGED),
            "NVML lacks nvmlDeviceGetFanSpeed; its installation is damaged, install it anew");
}

TEST_F(NvmlTest, DoesNotStart) {
  setenv("FAKE_NVML_FAIL", "nvmlInit_v2,9", 1);
  EXPECT_EQ(refusal_of(FAKE_NVML), "NVML: nvmlInit_v2: Driver Not Loaded (9)");
  setenv("FAKE_NVML_FAIL", "nvmlSystemGetNVMLVersion,4", 1);
  EXPECT_EQ(refusal_of(FAKE_NVML), "NVML: nvmlSystemGetNVMLVersion: no description (4)");
}

TEST_F(NvmlTest, EverythingThatACardTells) {
  const CardSensors sensors = open("61,45,118500,120000,1708,4006,4");
  EXPECT_EQ(sensors.version, "12.535.104.05");
  const CardHealth health = sensors.read(first_bus);
  EXPECT_EQ(health.temperature_celsius, 61u);
  EXPECT_EQ(health.fan_percent, 45u);
  EXPECT_EQ(health.power_watts, 118.5);
  EXPECT_EQ(health.power_limit_watts, 120.0);
  EXPECT_EQ(health.clock_mhz, 1708u);
  EXPECT_EQ(health.memory_clock_mhz, 4006u);
  ASSERT_TRUE(health.slowdown);
  EXPECT_TRUE(health.slowdown->power_limit);
  EXPECT_EQ(health.problem, "");
  EXPECT_EQ(sensors.read(second_bus).temperature_celsius, 60u);
}

TEST_F(NvmlTest, WhatKeepsClocksDown) {
  const auto reasons = [](const std::string& bits) {
    const Slowdown by = health("61,45,118500,120000,1708,4006," + bits).slowdown.value();
    return std::string(by.heat ? "heat " : "") + (by.power_brake ? "brake " : "") + (by.hardware ? "hardware " : "") +
           (by.power_limit ? "limit " : "");
  };
  EXPECT_EQ(reasons("0"), "");
  EXPECT_EQ(reasons("113"), "") << "idle, clocks that were set, boost in step, a display";
  EXPECT_EQ(reasons("4"), "limit ");
  EXPECT_EQ(reasons("20"), "heat ");
  EXPECT_EQ(reasons("48"), "heat ");
  EXPECT_EQ(reasons("88"), "brake ");
  EXPECT_EQ(reasons("8"), "hardware ");
  EXPECT_EQ(reasons("ec"), "heat brake limit ");
}

TEST_F(NvmlTest, WhatACardDoesNotHaveIsMissing) {
  const CardHealth health = NvmlTest::health("61,-,-,-,1708,-,-");
  EXPECT_EQ(health.temperature_celsius, 61u);
  EXPECT_FALSE(health.fan_percent || health.power_watts || health.power_limit_watts || health.memory_clock_mhz ||
               health.slowdown);
  EXPECT_EQ(health.clock_mhz, 1708u);
  EXPECT_EQ(health.problem, "");
}

TEST_F(NvmlTest, WhatFailsIsNamedAndTheRestIsTold) {
  const CardHealth health = NvmlTest::health("61,!999,!15,120000,1708,4006,0");
  EXPECT_EQ(health.problem, "0000:02:00.0: nvmlDeviceGetFanSpeed: Unknown Error (999)");
  EXPECT_FALSE(health.fan_percent || health.power_watts);
  EXPECT_EQ(health.temperature_celsius, 61u);
  EXPECT_EQ(health.clock_mhz, 1708u);
}

TEST_F(NvmlTest, ACardThatIsLost) {
  setenv("FAKE_NVML_FAIL", "nvmlDeviceGetHandleByPciBusId_v2,15", 1);
  const CardHealth lost = health("61,45,118500,120000,1708,4006,0");
  EXPECT_EQ(lost.problem, "0000:02:00.0: nvmlDeviceGetHandleByPciBusId_v2: GPU is lost (15)");
  EXPECT_FALSE(lost.temperature_celsius);
  EXPECT_EQ(open("-,-,-,-,-,-,-").read("0000:7F:00.0").problem,
            "0000:7F:00.0: nvmlDeviceGetHandleByPciBusId_v2: GPU is lost (15)");
}

TEST_F(NvmlTest, AStartThatDoesNotReturn) {
  fakes::HeldThreads held;
  setenv("FAKE_NVML_HANG", "nvmlInit_v2", 1);
  fake_->stuck = held.hold();
  EXPECT_EQ(fakes::error_of<CudaError>([] { open_card_sensors(limit); }),
            "NVML: nvmlInit_v2 has not returned for 0.03 s; restart the machine");
  EXPECT_EQ(held.let_go(), 1);
}

// It is not asked again, and the other is.
TEST_F(NvmlTest, ACardThatHangsIsNamedAndThenLeftAlone) {
  for (const std::string call : {"nvmlDeviceGetHandleByPciBusId_v2", "nvmlDeviceGetTemperature",
                                 "nvmlDeviceGetPowerUsage", "nvmlDeviceGetCurrentClocksThrottleReasons"}) {
    fakes::HeldThreads held;
    setenv("FAKE_NVML_HANG", (call + "," + first_bus).c_str(), 1);
    fake_->stuck = held.hold();
    const CardSensors sensors = open("61,45,118500,120000,1708,4006,0");
    const std::string expected = "0000:02:00.0: " + call + " has not returned for 0.03 s; restart the machine";
    for (int again = 0; again < 3; ++again) {
      const int handles = fake_->handles;
      const CardHealth stuck = sensors.read(first_bus);
      if (again > 0) {
        EXPECT_EQ(fake_->handles, handles);
      }
      EXPECT_EQ(stuck.problem, expected);
      EXPECT_FALSE(stuck.temperature_celsius);
      EXPECT_EQ(sensors.read(second_bus).temperature_celsius, 60u);
    }
    EXPECT_EQ(held.let_go(), 1);
  }
  EXPECT_TRUE(threads_left_behind());
}

}  // namespace
}  // namespace kernels::cuda
