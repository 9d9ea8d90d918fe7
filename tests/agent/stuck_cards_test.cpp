// A call of the driver that does not return although it waits for nothing, on one of a unit's cards.
#include "driver_cards_fixture.h"
#include "held_threads.h"

namespace agent {
namespace {

// Seconds that a call may take. The kernels that run within some take longer under the thread sanitizer.
#ifdef __SANITIZE_THREAD__
constexpr int limit = 5;
#else
constexpr int limit = 1;
#endif

class StuckCards : public DriverCardsTest {
 protected:
  // Three cards, on the second of which `call` is stuck after some.
  void expect_to_complete(const std::string& call, int after, UnitRunner& with) {
    fakes::HeldThreads held;
    fake_cuda().stuck = held.hold();
    setenv("FAKE_CUDA_STUCK", (call + ",1," + std::to_string(after)).c_str(), 1);
    use_cards(with, 3, std::chrono::seconds(limit));
    setenv("FAKE_CUDA_STUCK", "", 1);
    failures.clear();
    const protocol::Unit unit = short_unit(6);
    for (int again = 0; again < 2; ++again) expect_the_cpus(run(with, unit), unit);
    const std::string seconds = std::to_string(call == "cuDevicePrimaryCtxRetain" ? 5 * limit : limit);
    EXPECT_EQ(failures, std::vector<std::string>{"0000:0B:00.0 tiny.0.t0: 0000:0B:00.0: " + call +
                                                 " has not returned for " + seconds + " s; restart the machine"});
    EXPECT_EQ(with.cards().size(), 2u);
    with.free_buffers();
    with.use_cards({});

    EXPECT_GE(held.let_go(), 1) << "nothing of the unit is there any more; a card that never opened was tried twice";
    fake_cuda().stuck = nullptr;
  }
};

TEST_F(StuckCards, WhateverIsStuckTheUnitIsCompleted) {
  const std::pair<const char*, int> cases[] = {
      {"cuDevicePrimaryCtxRetain", 0}, {"cuMemAlloc_v2", 0}, {"cuMemcpyHtoDAsync_v2", 3},
      {"cuLaunchKernel", 50},          {"cuEventQuery", 20}, {"cuMemcpyDtoHAsync_v2", 2}};
  for (const auto& [call, after] : cases) {
    UnitRunner without_nccl([] { return kernels::make_cpu_ops(1); },
                            std::make_shared<CardSets>([](auto&&...) { return nullptr; }));
    expect_to_complete(call, after, without_nccl);
  }
}

TEST_F(StuckCards, AlsoWhereCardsAreLinked) {
  for (const char* call : {"cuEventRecord", "cuMemcpyDtoHAsync_v2"}) {
    UnitRunner with_nccl([] { return kernels::make_cpu_ops(1); });
    expect_to_complete(call, 8, with_nccl);
  }
}

}  // namespace
}  // namespace agent
