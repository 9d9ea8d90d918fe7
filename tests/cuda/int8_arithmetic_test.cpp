// A device multiplies int8 digits by the arithmetic that is the fastest there and right.
#include "cuda_host/int8_arithmetic.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>

namespace kernels::cuda {
namespace {

// A device that computes nothing: an arithmetic takes its time and leaves its byte everywhere.
class TimedDevice final : public Launcher {
 public:
  struct Behaviour {
    double seconds;
    int byte;
  };
  explicit TimedDevice(std::map<Int8Arithmetic, Behaviour> code) : code_(std::move(code)) {}

  bool has(const char* kernel) override { return find(kernel) != nullptr; }
  uint32_t multiprocessors() const override { return 1; }
  void launch(const Launch& launch) override {
    last_ = find(launch.kernel);
    ASSERT_NE(last_, nullptr) << launch.kernel;
    now += last_->seconds;
    ++launches;
  }
  void* allocate(size_t bytes) override {
    ++allocations;
    return ::operator new(bytes);
  }
  void free(void* device) noexcept override {
    --allocations;
    ::operator delete(device);
  }
  void read(void* host, const void*, size_t bytes) override { std::memset(host, last_->byte, bytes); }
  void write(void*, const void*, size_t) override {}
  void copy(void*, const void*, size_t) override {}
  void zero(void*, size_t) override {}
  size_t free_bytes() override { return 0; }

  double now = 0;
  int launches = 0, allocations = 0;

 private:
  const Behaviour* find(const std::string& kernel) const {
    for (const auto& [arithmetic, behaviour] : code_) {
      if (kernel.ends_with(std::string("_") + name_of(arithmetic))) return &behaviour;
    }
    return nullptr;
  }

  const std::map<Int8Arithmetic, Behaviour> code_;
  const Behaviour* last_ = nullptr;
};

Int8Arithmetic choice(TimedDevice& device) {
  const Int8Arithmetic chosen = choose_int8_arithmetic(device, [&device] { return device.now; });
  EXPECT_EQ(device.allocations, 0);
  return chosen;
}

TEST(CudaInt8Arithmetic, WhereThereIsOneItIsTaken) {
  for (const Int8Arithmetic arithmetic : all_int8_arithmetics) {
    TimedDevice device({{arithmetic, {1, 0}}});
    EXPECT_EQ(choice(device), arithmetic);
    EXPECT_EQ(device.launches, 0);
  }
}

// Code that has it is for devices with tensor cores.
TEST(CudaInt8Arithmetic, TheOneOfLaterDevicesIsTakenWithoutATrial) {
  std::map<Int8Arithmetic, TimedDevice::Behaviour> all;
  for (const Int8Arithmetic arithmetic : all_int8_arithmetics) all[arithmetic] = {1, 0};
  TimedDevice device(all);
  EXPECT_EQ(choice(device), Int8Arithmetic::m16n8k32);
  EXPECT_EQ(device.launches, 0);
}

TEST(CudaInt8Arithmetic, TheFasterOneIsTaken) {
  TimedDevice with_tensor_cores({{Int8Arithmetic::dp4a, {4e-5, 7}}, {Int8Arithmetic::m8n8k16, {1e-5, 7}}});
  EXPECT_EQ(choice(with_tensor_cores), Int8Arithmetic::m8n8k16);
  TimedDevice without({{Int8Arithmetic::dp4a, {4e-5, 7}}, {Int8Arithmetic::m8n8k16, {9e-5, 7}}});
  EXPECT_EQ(choice(without), Int8Arithmetic::dp4a);
}

TEST(CudaInt8Arithmetic, WrongResultsAreNotTaken) {
  TimedDevice device({{Int8Arithmetic::dp4a, {4e-5, 7}}, {Int8Arithmetic::m8n8k16, {1e-5, 8}}});
  EXPECT_EQ(choice(device), Int8Arithmetic::dp4a);
}

TEST(CudaInt8Arithmetic, CodeWithoutAnyIsAnError) {
  TimedDevice device({});
  EXPECT_THROW(choice(device), std::runtime_error);
}

}  // namespace
}  // namespace kernels::cuda
