// Calls of the driver that do not return although they wait for nothing (FAKE_CUDA_STUCK, tests/fakes/fake_cuda.h),
// until the test lets them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <future>
#include <optional>

#include "cuda_driver/cards.h"
#include "cuda_driver/device.h"
#include "fake_cuda.h"
#include "fake_library.h"
#include "held_threads.h"

namespace kernels::cuda {
namespace {

constexpr char stuck_image_text[] = ".version 7.8\n.target sm_75\n.visible .entry add(\n";
const std::span<const std::byte> stuck_images[] = {std::as_bytes(std::span(stuck_image_text))};
const Code stuck_code{"compute_75", {7, 5}, Kind::ptx, stuck_images};

std::string cuda_error_of(const std::function<void()>& body) { return fakes::error_of<CudaError>(body); }

class StuckCalls : public testing::Test {
 protected:
  void SetUp() override {
    fake_ = &fakes::seen_by<fakes::FakeCudaFunction>(FAKE_CUDA, "fake_cuda");
    for (const char* variable : {"FAKE_CUDA_FAIL", "FAKE_CUDA_HANG", "FAKE_CUDA_VERSION"}) unsetenv(variable);
    setenv("FAKE_CUDA_CARDS", "0000:0A:00.0,8.6,6000000000,Second;0000:02:00.0,8.6,6000000000,First", 1);
    *fake_ = {};
  }
  void TearDown() override {
    *fake_ = {};
    unsetenv("FAKE_CUDA_STUCK");
  }

  // From now on `call` is stuck on the first card by bus id, or, where it is of no card, at all.
  void told(const std::string& call, const char* ordinal = "1") {
    setenv("FAKE_CUDA_STUCK", (call + "," + ordinal + ",0").c_str(), 1);
    held_.emplace();
    fake_->stuck = held_->hold();
  }
  // What was stuck returns, late; its thread ends.
  void let_go() { EXPECT_EQ(held_->let_go(), 1); }

  std::vector<CudaCard> list() { return cards(driver_, limit); }
  CudaCard card() { return list().at(0); }

  using Milliseconds = std::chrono::milliseconds;
  static constexpr Milliseconds limit{30};
  const Driver driver_{FAKE_CUDA};
  fakes::FakeCuda* fake_ = nullptr;
  std::optional<fakes::HeldThreads> held_;
};

std::string stuck(const std::string& where, const std::string& call, const char* seconds = "0.03") {
  return where + ": " + call + " has not returned for " + seconds + " s; restart the machine";
}

TEST_F(StuckCalls, ADriverThatDoesNotStartIsNamed) {
  for (const char* call : {"cuInit", "cuDeviceGetCount"}) {
    told(call, "-1");
    EXPECT_EQ(cuda_error_of([&] { list(); }), stuck("the CUDA driver", call, "0.15"));
    let_go();
  }
}

TEST_F(StuckCalls, ACardThatIsNotToldOfDoesNotHideTheOthers) {
  for (const char* call : {"cuDeviceGetName", "cuDeviceGetAttribute", "cuDeviceTotalMem_v2"}) {
    told(call);
    const std::vector<CudaCard> found = list();
    EXPECT_EQ(found.at(0).problem, stuck("0000:02:00.0", call));
    EXPECT_EQ(found.at(1).name, "Second");
    EXPECT_EQ(found.at(1).problem, "");
    let_go();
  }
  told("cuDeviceGetPCIBusId");
  EXPECT_EQ(list().at(1).problem, stuck("card 1", "cuDeviceGetPCIBusId"));
  let_go();
}

TEST_F(StuckCalls, ACardThatDoesNotOpenIsNamed) {
  for (const char* call : {"cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuStreamCreate", "cuEventCreate",
                           "cuMemHostAlloc", "cuModuleLoadData"}) {
    told(call);
    const CudaCard first = card();
    EXPECT_EQ(cuda_error_of([&] { Device(driver_, first, stuck_code, limit); }), stuck("0000:02:00.0", call, "0.15"));
    let_go();
  }
}

// All of a device, once; what comes first that does not return is thrown, and nothing is asked for afterwards.
void use(Device& device, std::vector<float>& values) {
  const float args = 0;
  const size_t bytes = values.size() * sizeof(float);
  void* const memory = device.allocate(bytes);
  device.write(memory, values.data(), bytes);
  device.copy(memory, memory, bytes);
  device.zero(memory, bytes);
  device.launch({.kernel = "add", .args = &args, .args_bytes = sizeof args});
  device.synchronise();
  device.free_bytes();
  device.read(values.data(), memory, bytes);
  device.free(memory);
  device.synchronise();
}

TEST_F(StuckCalls, ACardIsNamedAndThenLeftAlone) {
  for (const char* call : {"cuMemAlloc_v2", "cuEventQuery", "cuMemcpyHtoDAsync_v2", "cuEventRecord",
                           "cuMemcpyDtoDAsync_v2", "cuMemsetD8Async", "cuModuleGetFunction", "cuLaunchKernel",
                           "cuMemGetInfo_v2", "cuMemcpyDtoHAsync_v2", "cuMemFree_v2"}) {
    told(call);
    Device device(driver_, card(), stuck_code, limit);
    std::vector<float> values(1000, 1.5f);
    const std::string expected = stuck("0000:02:00.0", call);
    EXPECT_EQ(cuda_error_of([&] { use(device, values); }), expected);
    for (int again = 0; again < 2; ++again) EXPECT_EQ(cuda_error_of([&] { use(device, values); }), expected);
    EXPECT_EQ(cuda_error_of([&] { device.zero(nullptr, 4); }), expected);
    device.free(nullptr);
    EXPECT_EQ(cuda_error_of([&] { device.has("add"); }), expected);
    EXPECT_EQ(cuda_error_of([&] { device.side_stream(); }), expected);
    const std::vector<float> before = values;
    let_go();
    EXPECT_EQ(values, before) << "a late return touches nothing";
    EXPECT_EQ(cuda_error_of([&] { device.synchronise(); }), expected) << "the card is not taken back";
  }
}

TEST_F(StuckCalls, AnEndDoesNotWait) {
  for (const char* call : {"cuStreamDestroy_v2", "cuMemFreeHost", "cuModuleUnload", "cuDevicePrimaryCtxRelease_v2"}) {
    told(call);
    std::vector<std::string> news;
    Device(driver_, card(), stuck_code, limit, [&](const std::string& what) { news.push_back(what); });
    EXPECT_EQ(news, std::vector<std::string>{stuck("0000:02:00.0", call)});
    let_go();
  }
  EXPECT_TRUE(threads_left_behind());
}

TEST_F(StuckCalls, TheOtherCardGoesOn) {
  told("cuLaunchKernel");
  const std::vector<CudaCard> both = list();
  std::vector<float> values(10, 1);
  {
    Device first(driver_, both[0], stuck_code, limit), second(driver_, both[1], stuck_code, limit);
    EXPECT_NE(cuda_error_of([&] { use(first, values); }), "no error");
    use(second, values);
  }
  EXPECT_EQ(values, std::vector<float>(10, 0)) << "as zero() left them";
  let_go();
}

// Many calls that together take longer than one may.
TEST_F(StuckCalls, CallsThatReturnAreNotStuck) {
  WatchedThread thread("here", limit, [](const CallWatch&) {
    for (int i = 0; i < 30; ++i) {
      const WatchedCall call("cuSlow");
      std::this_thread::sleep_for(Milliseconds(10));
    }
  });
  std::future<void> done = std::async(std::launch::async, [] { std::this_thread::sleep_for(10 * limit); });
  thread.get(std::move(done));
}

}  // namespace
}  // namespace kernels::cuda
