// Units of a small job over cards of the driver of the tests (tests/fakes/fake_cuda.h), which runs the kernels on the
// CPU.
#pragma once

#include "cards_fixture.h"
#include "fake_cuda.h"
#include "fake_library.h"
#include "fake_nccl.h"

namespace agent {

// What the libraries of the tests saw; from now on they are also where the real ones are asked for.
inline fakes::FakeCuda& fake_cuda() {
  static auto& seen = fakes::seen_by<fakes::FakeCudaFunction>(FAKE_CUDA, "fake_cuda");
  return seen;
}
inline fakes::FakeNccl& fake_nccl() {
  static auto& seen = fakes::seen_by<fakes::FakeNcclFunction>(FAKE_NCCL, "fake_nccl");
  return seen;
}

class DriverCardsTest : public CardsTest {
 protected:
  DriverCardsTest() : CardsTest(16) {}

  void SetUp() override {
    fake_cuda();
    fake_nccl() = {};
    for (const char* variable : {"FAKE_CUDA_FAIL", "FAKE_NCCL_FAIL", "FAKE_NCCL_HANG"}) setenv(variable, "", 1);
  }

  void use_cards(UnitRunner& with, size_t count, std::chrono::milliseconds timeout = kernels::cuda_timeout,
                 size_t bytes = 6'000'000'000) {
    std::string list;
    for (size_t i = 0; i < count; ++i) {
      list += "0000:0" + std::string(1, static_cast<char>('A' + i)) + ":00.0,8.6," + std::to_string(bytes) + ",Card;";
    }
    setenv("FAKE_CUDA_CARDS", list.c_str(), 1);
    UnitRunner::Cards cards;
    for (const kernels::CudaCard& card : kernels::cuda_cards().cards) {
      cards.push_back(std::make_shared<LaneWorker>(card.bus_id, [=] { return kernels::make_cuda_ops(card, timeout); }));
    }
    with.use_cards(
        std::move(cards), on_failed, [this](const std::string& what) { troubles.push_back(what); }, on_short);
  }
  protocol::Unit short_unit(uint64_t lanes) const {
    protocol::Unit unit = unit_of(lanes);
    unit.steps = 1;
    unit.inner->steps.resize(1);
    unit.batch = 1;
    unit.context = 4;
    unit.tokens = lanes * unit.batch * unit.context;
    return unit;
  }

  std::vector<std::string> troubles;
};

}  // namespace agent
