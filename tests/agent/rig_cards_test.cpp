// Which cards of the machine the agent takes, and what its log says of the others.
#include <spdlog/sinks/ostream_sink.h>

#include <sstream>
#include <thread>

#include "cards.h"
#include "driver_cards_fixture.h"
#include "fake_cublaslt.h"

namespace agent {
namespace {

class RigCards : public DriverCardsTest {
 protected:
  // Those that are taken of two, and the log.
  std::vector<RigCard> cards_taken(const std::vector<uint64_t>& numbers) {
    setenv("FAKE_CUDA_CARDS", "0000:0A:00.0,8.6,6000000000,One;0000:0B:00.0,8.6,6000000000,Two", 1);
    log_text.str("");
    Config config;
    config.cuda_devices = numbers;
    return rig_cards(config, log);
  }
  std::vector<std::string> taken(const std::vector<uint64_t>& numbers) {
    std::vector<std::string> names;
    for (const RigCard& card : cards_taken(numbers)) names.push_back(card.name);
    return names;
  }
  bool logged(const std::string& text) const { return log_text.str().find(text) != std::string::npos; }

  std::ostringstream log_text;
  Log log{std::make_shared<spdlog::sinks::ostream_sink_mt>(log_text), false};
};

TEST_F(RigCards, NumbersThatThereAreNotAreNamed) {
  EXPECT_EQ(taken({1, 5}), std::vector<std::string>{"0000:0B:00.0 Two"});
  EXPECT_TRUE(logged("cuda:5 is wanted, but this machine has 2 cards")) << log_text.str();
  EXPECT_FALSE(logged("computing on the CPU")) << log_text.str();
}

TEST_F(RigCards, WithNoneOfThemTheCpuComputes) {
  EXPECT_TRUE(taken({5}).empty());
  EXPECT_TRUE(logged("cuda:5 is wanted, but this machine has 2 cards")) << log_text.str();
  EXPECT_TRUE(logged("computing on the CPU: none of this machine's cards is used")) << log_text.str();
}

// As whatever fails on a card in use.
TEST_F(RigCards, MemoryThatIsNotFreedNamesTheUnit) {
  setenv("FAKE_CUDA_FAIL", "cuMemFree_v2,0,719,0,1", 1);
  UnitRunner without_nccl([] { return kernels::make_cpu_ops(1); },
                          std::make_shared<CardSets>([](auto&&...) { return nullptr; }));
  use_cards(without_nccl, 2);
  protocol::Unit unit = short_unit(2);
  expect_the_cpus(run(without_nccl, unit), unit);
  unit.batch = 2, unit.tokens *= 2;  // other buffers take the place of the first
  expect_the_cpus(run(without_nccl, unit), unit);
  EXPECT_EQ(failures, std::vector<std::string>{"0000:0A:00.0 tiny.0.t0: 0000:0A:00.0: cuMemFree_v2: unspecified launch "
                                               "failure (CUDA_ERROR_LAUNCH_FAILED, 719)"});
  EXPECT_EQ(without_nccl.cards().size(), 1u);
}

// In the trial, when the card is opened, nothing is computed here, and our own kernels are slow.
TEST_F(RigCards, CublasLtThatFailsIsLoggedWithTheUnit) {
  auto& cublaslt = fakes::seen_by<fakes::FakeCublasLtFunction>(FAKE_CUBLASLT, "fake_cublaslt");
  const auto run_kernels = std::exchange(fake_cuda().run, [](const fakes::FakeLaunch& launch) {
    if (launch.kernel != "int8_matmul_scales") std::this_thread::sleep_for(std::chrono::milliseconds(100));
  });
  cublaslt.instead = [] {};
  const RigCard card = cards_taken({0}).at(0);
  const auto worker = std::make_shared<LaneWorker>(card.name, card.make_ops, card.unit);
  worker->ops();
  cublaslt.instead = nullptr;
  fake_cuda().run = run_kernels;

  setenv("FAKE_CUBLASLT_FAIL", "cublasLtMatmul,13,1", 1);
  kernels::cublaslt_version();  // reads it
  runner.use_cards({worker}, on_failed);
  job.config.channels = 32;  // it takes whole groups of 16 digits
  use_layers(1);
  protocol::Unit unit = short_unit(1);
  unit.model = kernels::to_json(job.config);
  unit.profile = kernels::name_of(kernels::Profile::exact_int8);
  expect_the_cpus(run(runner, unit), unit);
  EXPECT_TRUE(failures.empty());
  EXPECT_TRUE(logged("tiny.0.t0: 0000:0A:00.0: cublasLtMatmul: execution failed (13), of ")) << log_text.str();
  setenv("FAKE_CUBLASLT_FAIL", "cublasLtCreate,1,0", 1);  // the tests that follow do without
}

TEST_F(RigCards, WhatIsNotGivenBackIsLogged) {
  setenv("FAKE_CUDA_FAIL", "cuMemFreeHost,-1,719,0,1", 1);
  cards_taken({0, 1}).at(0).make_ops().reset();
  EXPECT_TRUE(
      logged("0000:0A:00.0: cuMemFreeHost: unspecified launch failure (CUDA_ERROR_LAUNCH_FAILED, 719), when it "
             "was given back"))
      << log_text.str();
}

}  // namespace
}  // namespace agent
