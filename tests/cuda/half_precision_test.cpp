// A device gets the 16-bit format that its code has and that it multiplies rightly.
#include "cuda_host/half_precision.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "launcher.h"

namespace kernels::cuda {
namespace {

// The executor with the kernels of some formats; `wrong` adds a bit to what it gives.
class SomeHalves final : public simt::SimtLauncher {
 public:
  explicit SomeHalves(std::set<std::string> halves, bool wrong = false) : halves_(std::move(halves)), wrong_(wrong) {}

  bool has(const char* kernel) override {
    const std::string name = kernel;
    return halves_.contains(name.substr(name.rfind('_') + 1));
  }
  void launch(const Launch& launch) override {
    ++launches;
    SimtLauncher::launch(launch);
  }
  void* allocate(size_t bytes) override {
    ++allocations;
    return SimtLauncher::allocate(bytes);
  }
  void free(void* device) noexcept override {
    --allocations;
    SimtLauncher::free(device);
  }
  void read(void* host, const void* device, size_t bytes) override {
    SimtLauncher::read(host, device, bytes);
    if (wrong_) static_cast<unsigned char*>(host)[bytes - 4] ^= 1;
  }

  int launches = 0, allocations = 0;

 private:
  const std::set<std::string> halves_;
  const bool wrong_;
};

TEST(CudaHalfPrecision, Bf16IsTakenWithoutATrial) {
  SomeHalves device({"bf16", "fp16"}, true);
  EXPECT_EQ(choose_half_precision(device), HalfPrecision::bf16);
  EXPECT_EQ(device.launches, 0);
}

TEST(CudaHalfPrecision, Fp16IsTakenWhereItIsRight) {
  SomeHalves right({"fp16"}), wrong({"fp16"}, true);
  EXPECT_EQ(choose_half_precision(right), HalfPrecision::fp16);
  EXPECT_EQ(choose_half_precision(wrong), HalfPrecision::none);
  for (const SomeHalves* device : {&right, &wrong}) {
    EXPECT_EQ(device->launches, 1);
    EXPECT_EQ(device->allocations, 0);
  }
}

TEST(CudaHalfPrecision, CodeWithoutEitherHasNone) {
  SomeHalves device({});
  EXPECT_EQ(choose_half_precision(device), HalfPrecision::none);
  EXPECT_EQ(device.launches, 0);
}

}  // namespace
}  // namespace kernels::cuda
