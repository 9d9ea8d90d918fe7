// The way of a launch on a rig, but for the card: CudaOps, a Device with the compiled kernels, the driver's functions.
// The driver of the tests finds each kernel in the compiled code, and tests/simt runs it.
#include <gtest/gtest.h>

#include <cstdlib>

#include "cuda/matmul_args.h"
#include "cuda_driver/cards.h"
#include "cuda_driver/device.h"
#include "cuda_host/cuda_ops.h"
#include "cuda_host/half_precision.h"
#include "cuda_host/matmul_launch.h"
#include "fake_cuda.h"
#include "fake_library.h"
#include "fast_test_util.h"
#include "launcher.h"

namespace kernels::cuda {
namespace {

using test::expect_same_bits;
using test::poisoned;
using test::Random;
using test::Values;

class CudaDriver : public testing::TestWithParam<const char*> {
 protected:
  CudaDriver()
      : device_(driver_, only_card(), code_for(capability()), cuda_timeout),
        ops_(device_, int8_arithmetics(device_).back(), HalfPrecision::none) {
    fake_ = &fakes::seen_by<fakes::FakeCudaFunction>(FAKE_CUDA, "fake_cuda");
    fake_->launches.clear();
    fake_->run = [this](const fakes::FakeLaunch& launch) {
      const auto [gx, gy, gz] = launch.grid;
      const auto [bx, by, bz] = launch.block;
      executor_.launch({.kernel = launch.kernel.c_str(),
                        .grid = {gx, gy, gz},
                        .block = {bx, by, bz},
                        .shared_bytes = launch.shared_bytes,
                        .args = launch.args.data(),
                        .args_bytes = launch.args.size()});
    };
  }
  ~CudaDriver() override { fake_->run = nullptr; }

  static ComputeCapability capability() { return {std::atoi(GetParam()), std::atoi(std::strchr(GetParam(), '.') + 1)}; }
  CudaCard only_card() {
    setenv("FAKE_CUDA_CARDS", (std::string("0000:01:00.0,") + GetParam() + ",6371475456,Card").c_str(), 1);
    return cards(driver_).at(0);
  }

  template <class T>
  T* upload(const std::vector<T>& values) {
    memory_.push_back({device_.allocate(values.size() * sizeof(T)), [this](void* memory) { device_.free(memory); }});
    device_.write(memory_.back().get(), values.data(), values.size() * sizeof(T));
    return static_cast<T*>(memory_.back().get());
  }
  Values download(const float* device, size_t count) {
    Values values(count);
    device_.read(values.data(), device, count * sizeof(float));
    return values;
  }

  const Driver driver_{FAKE_CUDA};
  simt::SimtLauncher executor_;
  Device device_;
  CudaOps ops_;
  fakes::FakeCuda* fake_ = nullptr;
  std::vector<std::unique_ptr<void, std::function<void(void*)>>> memory_;
  const std::unique_ptr<Ops> reference_ = make_reference_ops();
  Random random_{7};
};

TEST_P(CudaDriver, AProductGivesTheReferencesBits) {
  constexpr size_t m = 67, n = 33, k = 129;
  const Values a = random_.values(m * k), b = random_.values(k * n), bias = random_.values(n);
  Values expected = poisoned(m * n);
  Matmul op{.m = m,
            .n = n,
            .k = k,
            .a = a.data(),
            .a_row = k,
            .b = b.data(),
            .b_row = n,
            .c = expected.data(),
            .ldc = n,
            .bias = bias.data()};
  reference_->matmul(op);
  op.a = upload(a), op.b = upload(b), op.bias = upload(bias), op.c = upload(poisoned(m * n));
  ops_.matmul(op);
  expect_same_bits(download(op.c, m * n), expected, "product");
  EXPECT_FALSE(fake_->launches.empty());
}

std::vector<Int8Arithmetic> expected_int8_arithmetics(const std::string& capability) {
  if (capability == "6.0") return {Int8Arithmetic::fp32};
  if (capability == "6.1" || capability == "7.0") return {Int8Arithmetic::dp4a};
  if (capability == "7.5" || capability == "13.0") return {Int8Arithmetic::dp4a, Int8Arithmetic::m8n8k16};
  return {Int8Arithmetic::m16n8k32};
}

TEST_P(CudaDriver, EveryInt8ProductOfTheCodeGivesTheReferencesBits) {
  constexpr size_t m = 67, n = 33, k = 129;
  std::vector<int8_t> a(m * k), low(m * k), b(k * n);
  for (auto* digits : {&a, &low, &b}) {
    for (int8_t& digit : *digits) digit = static_cast<int8_t>(static_cast<int>(random_.between(0, 254)) - 127);
  }
  const Values scales = random_.values(m), c = poisoned(m * n);
  Values expected = c;
  Int8Matmul op{.m = m,
                .n = n,
                .k = k,
                .a = a.data(),
                .a_low = low.data(),
                .a_row = k,
                .a_scales = scales.data(),
                .b = b.data(),
                .b_row = n,
                .c = expected.data(),
                .ldc = n};
  reference_->int8_matmul(op);
  op.a = upload(a), op.a_low = upload(low), op.a_scales = upload(scales), op.b = upload(b);
  EXPECT_EQ(int8_arithmetics(device_), expected_int8_arithmetics(GetParam()));
  for (const Int8Arithmetic arithmetic : int8_arithmetics(device_)) {
    op.c = upload(c);
    CudaOps(device_, arithmetic, HalfPrecision::none).int8_matmul(op);
    expect_same_bits(download(op.c, c.size()), expected, name_of(arithmetic));
  }
}

// Where it is fp16, a trial on the card has been right.
HalfPrecision expected_half_precision(const std::string& capability) {
  if (capability[0] == '6' || capability == "7.0") return HalfPrecision::none;
  return capability == "7.5" || capability == "13.0" ? HalfPrecision::fp16 : HalfPrecision::bf16;
}

TEST_P(CudaDriver, FastGivesTheExecutorsBits) {
  const HalfPrecision half = choose_half_precision(device_);
  ASSERT_EQ(half, expected_half_precision(GetParam()));
  if (half == HalfPrecision::none) return;
  test::FastProduct product(random_, {70, 66, 40, false, false, test::Epilogue::bias}, half);
  const FastMatmul on_card = product.operation([&](auto& array) { return upload(array); });
  launch_fast_matmul(product.operation([](auto& array) { return array.data(); }), 64, half, executor_);
  CudaOps(device_, int8_arithmetics(device_).back(), half).fast_matmul(on_card);
  expect_same_bits(download(on_card.c, product.c.size()), product.c, name_of(half));
  for (const char* kernel :
       {"bias_backward", "cross_entropy", "gelu_backward", "gelu_forward", "layer_norm_backward_gains",
        "layer_norm_backward_rows", "layer_norm_forward", "rms_norm_backward_gains", "rms_norm_backward_rows",
        "rms_norm_forward", "rope", "round_to_halves", "swiglu_backward", "swiglu_forward"}) {
    EXPECT_TRUE(device_.has(variant(kernel, static_cast<const uint16_t*>(nullptr), half).c_str())) << kernel;
  }
}

TEST_P(CudaDriver, ANormGivesTheReferencesBits) {
  constexpr size_t rows = 5, channels = 100;
  const Values x = random_.values(rows * channels), weight = random_.values(channels), bias = random_.values(channels);
  Values y = poisoned(x.size()), mean = poisoned(rows), rstd = poisoned(rows);
  LayerNormForward op{.rows = rows,
                      .channels = channels,
                      .epsilon = 1e-5f,
                      .x = x.data(),
                      .weight = weight.data(),
                      .bias = bias.data(),
                      .y = y.data(),
                      .mean = mean.data(),
                      .rstd = rstd.data()};
  reference_->layer_norm_forward(op);
  op.x = upload(x), op.weight = upload(weight), op.bias = upload(bias);
  op.y = upload(poisoned(x.size())), op.mean = upload(poisoned(rows)), op.rstd = upload(poisoned(rows));
  ops_.layer_norm_forward(op);
  expect_same_bits(download(op.y, y.size()), y, "y");
  expect_same_bits(download(op.mean, rows), mean, "mean");
  expect_same_bits(download(op.rstd, rows), rstd, "rstd");
}

// The driver of the tests holds launches against what the compiled code says, which the executor does not know.
TEST_P(CudaDriver, LaunchesKeepToWhatTheCodeIsCompiledFor) {
  MatmulArgs args{};  // of no elements
  args.row_tiles = args.column_tiles = 1;
  const Launch right{.kernel = "matmul_64_tt", .block = {128, 1, 1}, .args = &args, .args_bytes = sizeof args};
  const auto wait_for = [&](const Launch& launch) {
    device_.launch(launch);
    device_.free_bytes();
  };
  EXPECT_NO_THROW(wait_for(right));
  if (capability().major > 12) return;  // PTX
  Launch wrong = right;
  wrong.block[0] = 129;
  EXPECT_THROW(wait_for(wrong), CudaError);
  wrong = right;
  wrong.args_bytes -= 8;
  EXPECT_THROW(wait_for(wrong), CudaError);
}

TEST_P(CudaDriver, ASumComesBack) {
  const Values x = random_.values(10'000);
  const float expected = reference_->row_sum(x.data(), x.size()), got = ops_.row_sum(upload(x), x.size());
  expect_same_bits({got}, {expected}, "sum");
}

INSTANTIATE_TEST_SUITE_P(, CudaDriver, testing::Values("6.0", "6.1", "7.0", "7.5", "8.6", "9.0", "12.0", "13.0"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           name[name.find('.')] = '_';
                           return name;
                         });

}  // namespace
}  // namespace kernels::cuda
