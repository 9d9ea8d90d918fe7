// Memory, copies and launches through a driver without cards (tests/fakes/fake_cuda.h), which notes and checks them.
#include "cuda_driver/device.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <numeric>

#include "cuda_driver/cards.h"
#include "cuda_host/int8_arithmetic.h"
#include "fake_cuda.h"
#include "fake_library.h"

namespace kernels::cuda {
namespace {

// One image with one kernel, as far as the driver of the tests reads it.
constexpr char image_text[] = ".version 7.8\n.target sm_75\n.visible .entry add(\n";
const std::span<const std::byte> images[] = {std::as_bytes(std::span(image_text))};
const Code ptx{"compute_75", {7, 5}, Kind::ptx, images};

class CudaDevice : public testing::Test {
 protected:
  void SetUp() override {
    driver_ = std::make_unique<Driver>(FAKE_CUDA);
    fake_ = &fakes::seen_by<fakes::FakeCudaFunction>(FAKE_CUDA, "fake_cuda");
    *fake_ = {};
  }
  void TearDown() override {
    EXPECT_EQ(fake_->contexts, 0);
    EXPECT_EQ(fake_->streams, 0);
    EXPECT_EQ(fake_->events, 0);
    EXPECT_EQ(fake_->pinned, 0);
    EXPECT_EQ(fake_->loaded, 0);
    EXPECT_EQ(fake_->graphs, 0);
    EXPECT_EQ(fake_->allocations, 0);
  }

  // The only card of a machine; from now on `fail` fails, or the card hangs after so many launches.
  CudaCard card(const char* capability, const char* fail = "", const char* launches = nullptr) {
    setenv("FAKE_CUDA_CARDS", (std::string("0000:01:00.0,") + capability + ",6371475456,Card").c_str(), 1);
    setenv("FAKE_CUDA_FAIL", fail, 1);
    setenv("FAKE_CUDA_HANG", launches == nullptr ? "" : (std::string("cuLaunchKernel,0,") + launches).c_str(), 1);
    return cards(*driver_).at(0);
  }

  std::unique_ptr<Driver> driver_;
  fakes::FakeCuda* fake_ = nullptr;
};

std::string error_of(const std::function<void()>& body) { return fakes::error_of<std::runtime_error>(body); }

// What the loaded code has, in the words of CudaCard.
std::string int8_text(const std::vector<Int8Arithmetic>& arithmetics) {
  switch (arithmetics.back()) {
    case Int8Arithmetic::fp32:
      return "fp32";
    case Int8Arithmetic::dp4a:
      return "dp4a";
    case Int8Arithmetic::m8n8k16:
      return "tensor cores or dp4a";
    case Int8Arithmetic::m16n8k32:
      return "tensor cores";
  }
  return "";
}

struct Args {
  uint64_t count;
  const float* x;
  float* y;
};

TEST_F(CudaDevice, LoadsTheCodeOfItsCapability) {
  if (embedded_code().empty()) GTEST_SKIP() << "built without CUDA code";
  const std::pair<const char*, const char*> cases[] = {
      {"6.0", "sm_60"}, {"6.1", "sm_61"}, {"7.0", "sm_70"},   {"7.5", "sm_75"},   {"8.0", "sm_80"},   {"8.6", "sm_86"},
      {"8.9", "sm_89"}, {"9.0", "sm_90"}, {"10.0", "sm_100"}, {"10.3", "sm_100"}, {"12.0", "sm_120"}, {"13.0", "ptx"}};
  for (const auto& [capability, expected] : cases) {
    fake_->modules.clear();
    const CudaCard only = card(capability);
    const Code& code = code_for({only.major, only.minor});
    Device device(*driver_, only, code, cuda_timeout);
    EXPECT_EQ(fake_->modules, std::vector<std::string>(code.images.size(), expected)) << capability;
    EXPECT_EQ(fake_->context_flags, schedule_blocking_sync);
    EXPECT_EQ(only.int8, int8_text(int8_arithmetics(device))) << capability;
    for (const char* half : {"bf16", "fp16"})
      EXPECT_EQ(device.has((std::string("fast_matmul_64_tt_") + half).c_str()), only.fast == half) << capability;
  }
}

TEST_F(CudaDevice, CodeForAnotherCardIsRefused) {
  if (embedded_code().empty()) GTEST_SKIP() << "built without CUDA code";
  const CudaCard only = card("6.1");
  EXPECT_EQ(error_of([&] {
              Device(*driver_, only, code_for({8, 6}), cuda_timeout);
            }),
            "0000:01:00.0: sm_86: cuModuleLoadData: no description (unknown, 209)");
}

// As one that is older than the compiler of the first code may do.
TEST_F(CudaDevice, WhereTheDriverRefusesCodeTheNextIsLoaded) {
  const Code other{"compute_80", {8, 0}, Kind::ptx, images};
  const Code* const both[] = {&other, &ptx};
  {
    const CudaCard only = card("8.6", "cuModuleLoadData,0,222,0,1");
    Device device = open_device(*driver_, only, both, cuda_timeout);
    EXPECT_EQ(fake_->modules, std::vector<std::string>{"ptx"});
    EXPECT_TRUE(device.has("add"));
  }
  const auto error_with = [&](const char* fail) {
    return error_of([&] { open_device(*driver_, card("8.6", fail), both, cuda_timeout); });
  };
  EXPECT_EQ(error_with("cuModuleLoadData,0,209"),
            "0000:01:00.0: compute_80: cuModuleLoadData: no description (unknown, 209); 0000:01:00.0: compute_75: "
            "cuModuleLoadData: no description (unknown, 209); the driver supports CUDA 12.4, a newer one is needed");
  EXPECT_EQ(error_with("cuModuleLoadData,0,2,0,1"),
            "0000:01:00.0: compute_80: cuModuleLoadData: out of memory (CUDA_ERROR_OUT_OF_MEMORY, 2)")
      << "that is no fault of the code";
}

TEST_F(CudaDevice, CopiesLargeArraysInPieces) {
  Device device(*driver_, card("8.6"), ptx, cuda_timeout);
  std::vector<uint32_t> in((20u << 20) / sizeof(uint32_t) + 3), out(in.size());
  std::iota(in.begin(), in.end(), 1u);
  const size_t bytes = in.size() * sizeof(uint32_t);
  void* memory = device.allocate(bytes);
  device.write(memory, in.data(), bytes);
  device.read(out.data(), memory, bytes);
  EXPECT_EQ(in, out);
  device.read(out.data(), static_cast<const uint32_t*>(memory) + 5, 4);
  EXPECT_EQ(out[0], 6u);
  device.write(memory, nullptr, 0);
  device.free(memory);
  device.free(nullptr);
  device.free(device.allocate(0));
}

TEST_F(CudaDevice, Launches) {
  Device device(*driver_, card("9.0"), ptx, cuda_timeout);
  EXPECT_EQ(device.multiprocessors(), 16u);
  Args args{7, nullptr, nullptr};
  device.launch({.kernel = "add",
                 .grid = {3, 2, 1},
                 .block = {64, 1, 2},
                 .shared_bytes = 100u << 10,
                 .args = &args,
                 .args_bytes = sizeof args});
  args.count = 8;
  device.launch({.kernel = "add", .args = &args, .args_bytes = sizeof args});
  device.synchronise();
  ASSERT_EQ(fake_->launches.size(), 2u);
  const fakes::FakeLaunch& first = fake_->launches[0];
  EXPECT_EQ(first.kernel, "add");
  EXPECT_EQ(first.grid, (std::array<unsigned, 3>{3, 2, 1}));
  EXPECT_EQ(first.block, (std::array<unsigned, 3>{64, 1, 2}));
  EXPECT_EQ(first.shared_bytes, 100u << 10);
  ASSERT_EQ(first.args.size(), sizeof args);
  Args seen{};
  std::memcpy(&seen, first.args.data(), sizeof seen);
  EXPECT_EQ(seen.count, 7u) << "the arguments were copied by launch()";
}

TEST_F(CudaDevice, WhatIsRecordedIsQueuedWhenItIsReplayed) {
  Device device(*driver_, card("9.0"), ptx, cuda_timeout);
  auto* const memory = static_cast<uint32_t*>(device.allocate(2 * sizeof(uint32_t)));
  const uint32_t values[] = {7, 8};
  device.write(memory, values, sizeof values);
  const std::unique_ptr<Recording> recording = device.make_recording();
  ASSERT_TRUE(recording->begin());
  Args args{7, nullptr, nullptr};
  for (unsigned turn = 0; turn < 100; ++turn)
    device.launch({.kernel = "add", .args = &args, .args_bytes = sizeof args});
  device.copy(memory, memory + 1, sizeof(uint32_t));
  device.zero(memory + 1, sizeof(uint32_t));
  EXPECT_THROW(device.synchronise(), std::logic_error) << "it would wait for ever";
  ASSERT_TRUE(recording->end());
  uint32_t seen[2];
  device.read(seen, memory, sizeof seen);
  EXPECT_EQ(seen[0], 7u) << "not copied yet";
  EXPECT_EQ(fake_->launches.size(), 0u);
  recording->replay();
  device.read(seen, memory, sizeof seen);
  EXPECT_EQ(seen[0], 8u);
  EXPECT_EQ(seen[1], 0u);
  EXPECT_EQ(fake_->launches.size(), 100u);
  device.free(memory);
}

TEST_F(CudaDevice, ErrorsNameCardCallAndReason) {
  Args args{};
  const Launch add{.kernel = "add", .args = &args, .args_bytes = sizeof args};
  {
    Device device(*driver_, card("6.1"), ptx, cuda_timeout);
    void* const memory = device.allocate(4);
    device.launch({.kernel = "nothing"});
    device.launch(add);
    device.free(memory);
    EXPECT_EQ(error_of([&] { device.synchronise(); }), "0000:01:00.0: no kernel nothing in compute_75");
    Launch large = add;
    large.block[0] = 2048;
    device.launch(large);
    EXPECT_EQ(error_of([&] { device.synchronise(); }),
              "0000:01:00.0: add: cuLaunchKernel: no description (unknown, 1)");
    EXPECT_TRUE(fake_->launches.empty()) << "nothing is done after what failed, until that was said";
  }
  {
    Device device(*driver_, card("6.1", "cuMemAlloc_v2,0,2"), ptx, cuda_timeout);
    EXPECT_EQ(error_of([&] { device.allocate(4096); }),
              "0000:01:00.0: 4096 bytes: cuMemAlloc_v2: out of memory (CUDA_ERROR_OUT_OF_MEMORY, 2)");
  }
  {
    Device device(*driver_, card("6.1", "cuEventQuery,0,719"), ptx, cuda_timeout);
    device.launch(add);
    EXPECT_EQ(error_of([&] { device.synchronise(); }),
              "0000:01:00.0: cuEventQuery: unspecified launch failure (CUDA_ERROR_LAUNCH_FAILED, 719)");
  }
}

// Whatever fails at the start, what was taken before is given back.
TEST_F(CudaDevice, AStartThatFailsLeavesNothing) {
  for (const char* call :
       {"cuDeviceGet", "cuDevicePrimaryCtxSetFlags_v2", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuStreamCreate",
        "cuEventCreate", "cuMemHostAlloc", "cuModuleLoadData"}) {
    const CudaCard only = card("8.6");
    const CudaCard failing = card("8.6", (std::string(call) + ",0,719").c_str());
    const CudaCard& used = failing.problem.empty() ? failing : only;
    EXPECT_NE(error_of([&] {
                Device(*driver_, used, ptx, cuda_timeout);
              }).find(std::string(call) + ": unspecified launch failure"),
              std::string::npos)
        << call;
    EXPECT_EQ(fake_->contexts + fake_->streams + fake_->events + fake_->pinned + fake_->loaded, 0) << call;
  }
}

// What fails where nobody waits for it.
class CudaDeviceGivingBack : public CudaDevice {
 protected:
  void TearDown() override {
    fake_->allocations = 0;
    CudaDevice::TearDown();
  }

  std::unique_ptr<Device> open(const std::string& fail) {
    return std::make_unique<Device>(*driver_, card("8.6", fail.c_str()), ptx, cuda_timeout,
                                    [this](const std::string& what) { told_.push_back(what); });
  }
  static std::string failure_of(const std::string& call) {
    return "0000:01:00.0: " + call + ": unspecified launch failure (CUDA_ERROR_LAUNCH_FAILED, 719)";
  }

  std::vector<std::string> told_;
};

// Memory, and a recording, while the card is in use.
TEST_F(CudaDeviceGivingBack, IsThrownByTheNextThatWaits) {
  for (const char* call : {"cuMemFree_v2", "cuGraphDestroy", "cuGraphExecDestroy"}) {
    const std::unique_ptr<Device> device = open(std::string(call) + ",0,719,0,1");
    void* const memory = device->allocate(4);
    std::unique_ptr<Recording> recording = device->make_recording();
    ASSERT_TRUE(recording->begin());
    ASSERT_TRUE(recording->end());
    recording.reset();
    device->free(memory);
    EXPECT_EQ(error_of([&] { device->free_bytes(); }), failure_of(call));
    EXPECT_NO_THROW(device->free_bytes()) << call;
  }
  EXPECT_TRUE(told_.empty());
}

TEST_F(CudaDeviceGivingBack, IsToldOnceAtTheEnd) {
  const std::pair<const char*, const char*> cases[] = {
      {"cuMemFree_v2", ",0,719"},       {"cuModuleUnload", ",0,719"},
      {"cuMemFreeHost", ",0,719"},      {"cuGraphExecDestroy", ",0,719"},
      {"cuEventDestroy_v2", ",0,719"},  {"cuStreamDestroy_v2", ",0,719"},
      {"cuCtxSetCurrent", ",-1,719,1"}, {"cuDevicePrimaryCtxRelease_v2", ",0,719"}};
  for (const auto& [call, when] : cases) {
    told_.clear();
    {
      const std::unique_ptr<Device> device = open(std::string(call) + when);
      device->side_stream();
      const std::unique_ptr<Recording> recording = device->make_recording();
      ASSERT_TRUE(recording->begin());
      ASSERT_TRUE(recording->end());
      device->free(device->allocate(4));
    }
    EXPECT_EQ(told_, std::vector<std::string>{failure_of(call)});
  }
}

// Whatever is asked of it from then on fails as well.
TEST_F(CudaDeviceGivingBack, OfACardThatHasFailedIsNoNews) {
  std::unique_ptr<Device> device = open("*,0,719,200");
  void* const memory = device->allocate(4);
  const auto use = [&] {
    for (int i = 0; i < 200; ++i) device->synchronise();
  };
  EXPECT_NE(error_of(use).find("unspecified launch failure"), std::string::npos);
  device->free(memory);
  device.reset();
  EXPECT_TRUE(told_.empty()) << told_.front();
}

// A card that hangs: whatever waits for it then would end this program (FAKE_CUDA_HANG).
class CudaDeviceThatHangs : public CudaDevice {
 protected:
  // After so many launches.
  std::unique_ptr<Device> open(const char* launches) {
    return std::make_unique<Device>(*driver_, card("8.6", "", launches), ptx, std::chrono::milliseconds(20));
  }
  void TearDown() override {
    EXPECT_EQ(fake_->contexts, 1) << "it is left as it is";
    *fake_ = {};
  }

  const Args args_{};
  const Launch add_{.kernel = "add", .args = &args_, .args_bytes = sizeof args_};
  const std::string hangs_ = "0000:01:00.0: the card hangs: it has finished nothing for 0.02 s; restart the machine";
};

TEST_F(CudaDeviceThatHangs, IsNamedAndThenLeftAlone) {
  const std::unique_ptr<Device> device = open("2");
  void* const memory = device->allocate(sizeof(float));
  device->launch(add_);
  device->launch(add_);
  device->synchronise();
  device->launch(add_);
  EXPECT_EQ(error_of([&] { device->synchronise(); }), hangs_);
  float value = 0;
  const std::function<void()> calls[] = {
      [&] { device->has("add"); },
      [&] { device->allocate(4); },
      [&] { device->read(&value, memory, sizeof value); },
      [&] { device->write(memory, &value, sizeof value); },
      [&] { device->free_bytes(); },
      [&] { device->synchronise(); },
  };
  for (const std::function<void()>& call : calls) EXPECT_EQ(error_of(call), hangs_);
  const std::function<void()> posted[] = {
      [&] { device->launch(add_); },
      [&] { device->copy(memory, memory, sizeof value); },
      [&] { device->zero(memory, sizeof value); },
  };
  for (const std::function<void()>& post : posted) {
    post();
    EXPECT_EQ(error_of([&] { device->synchronise(); }), hangs_);
  }
  device->free(memory);
}

TEST_F(CudaDeviceThatHangs, ItsQueueDoesNotFill) {
  const std::unique_ptr<Device> device = open("100");
  EXPECT_EQ(error_of([&] {
              for (int i = 0; i < 5000; ++i) device->launch(add_);
            }),
            hangs_);
}

TEST_F(CudaDeviceThatHangs, MemoryIsNotFreed) {
  const std::unique_ptr<Device> device = open("0");
  void* const memory = device->allocate(4);
  device->launch(add_);
  device->free(memory);
  EXPECT_EQ(error_of([&] { device->synchronise(); }), hangs_);
  EXPECT_EQ(fake_->allocations, 1);
}

TEST_F(CudaDeviceThatHangs, ItIsLeftAsItIsAtTheEnd) { open("0")->launch(add_); }

}  // namespace
}  // namespace kernels::cuda
