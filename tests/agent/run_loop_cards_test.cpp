// The loop on a rig with cards.
#include <future>

#include "cpu_as_card.h"
#include "run_loop_fixture.h"

namespace agent {
namespace {

class RunLoopCards : public RunLoopTest {
 protected:
  RigCard card(const std::string& name, std::function<void()> before = {}) {
    return {name, [before] { return std::make_unique<CpuAsCard>(before); }};
  }
  protocol::Digest result_of_the_cpu() {
    world.cards.clear();
    job.lease(job.unit());
    EXPECT_FALSE(run(1, 1));
    const protocol::Digest digest = pool.submissions.at(0).result.digest;
    pool.submissions.clear();
    return digest;
  }
};

TEST_F(RunLoopCards, CardsThatPassTheSelfTestCompute) {
  const protocol::Digest expected = result_of_the_cpu();
  world.cards = {card("0000:01:00.0 A"), card("0000:02:00.0 B", [] { fail_as_card("0000:02:00.0"); }),
                 card("0000:03:00.0 C")};
  job.lease(job.unit());
  EXPECT_FALSE(run(1, 1));
  ASSERT_EQ(pool.submissions.size(), 1u) << log();
  EXPECT_EQ(pool.submissions[0].result.digest, expected);
  EXPECT_EQ(logged("0000:01:00.0 A: self-test passed ("), 1u) << log();
  EXPECT_EQ(logged("0000:03:00.0 C: self-test passed ("), 1u);
  EXPECT_EQ(logged("0000:02:00.0 B is left out: 0000:02:00.0: cuLaunchKernel: unspecified launch failure"), 1u);
  EXPECT_GT(pool.lease_request->flops, 1e6);
  EXPECT_LT(pool.lease_request->memory_bytes, 6'000'000'000u) << "the card's, but what its driver wants";
  EXPECT_GT(pool.lease_request->memory_bytes, 5'900'000'000u);
}

TEST_F(RunLoopCards, ACardThatComputesWrongIsLeftOut) {
  class Wrong : public kernels::ForwardingOps {
   public:
    Wrong() : ForwardingOps(std::make_unique<CpuAsCard>(nullptr)) {}
    void gelu_forward(const kernels::GeluForward& op) override {
      inner_->gelu_forward(op);
      op.y[op.count - 1] += 1;
    }
  };
  world.cards = {{"0000:01:00.0 A", [] { return std::make_unique<Wrong>(); }}, card("0000:02:00.0 B")};
  job.lease(job.unit());
  EXPECT_FALSE(run(1, 1));
  EXPECT_EQ(logged("0000:01:00.0 A is left out: self-test failed: "), 1u) << log();
  EXPECT_EQ(pool.submissions.size(), 1u);
}

TEST_F(RunLoopCards, WithoutCardsThatWorkTheCpuComputes) {
  world.cards = {card("0000:01:00.0 A", [] { fail_as_card("0000:01:00.0"); })};
  job.lease(job.unit());
  EXPECT_FALSE(run(1, 1));
  EXPECT_EQ(logged("self-test passed (avx") + logged("self-test passed (portable") + logged("self-test passed (neon"),
            1u)
      << log();
  EXPECT_EQ(pool.submissions.size(), 1u);
}

TEST_F(RunLoopCards, ACardFarBelowWhatItsCoresGiveIsNamed) {
  world.cards = {card("0000:01:00.0 A"), card("0000:02:00.0 B"), card("0000:03:00.0 C")};
  world.cards[1].peak_flops = 1e18;
  world.cards[2].peak_flops = 1;
  job.lease(job.unit());
  EXPECT_FALSE(run(1, 1));
  EXPECT_EQ(logged(": its multiply-add is throttled, or something slows it down"), 1u) << log();
  EXPECT_EQ(logged("0000:02:00.0 B computes "), 1u);
  EXPECT_EQ(logged(" GFLOP/s, its cores would give 1000000000.0 GFLOP/s"), 1u);
  EXPECT_EQ(pool.submissions.size(), 1u) << "it computes all the same";
}

TEST_F(RunLoopCards, WhatACardOfferedIsNotOfferedWithoutIt) {
  class Large : public CpuAsCard {
   public:
    using CpuAsCard::CpuAsCard;
    size_t free_bytes() override { return 12'000'000'000; }
  };
  bool broken = false;
  std::promise<void> failed;
  const auto fail = [&] {
    if (!broken) return;
    failed.set_value();
    fail_as_card("0000:01:00.0");
  };
  const auto wait = [&, has_failed = failed.get_future().share()] {
    if (broken) has_failed.wait();
  };
  world.cards = {{"0000:01:00.0 A", [&] { return std::make_unique<Large>(fail); }}, card("0000:02:00.0 B", wait)};
  std::vector<uint64_t> offered;
  pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
    broken = broken || request.path == "/v1/leases";
    if (pool.lease_request) offered.push_back(pool.lease_request->memory_bytes);
    return {};
  };
  job.lease(job.unit());
  job.lease(job.unit());
  EXPECT_FALSE(run(1, 2));
  EXPECT_EQ(logged("0000:01:00.0 A is left out: "), 1u) << log();
  ASSERT_FALSE(offered.empty());
  EXPECT_GT(offered.front(), 11'900'000'000u);
  EXPECT_LT(offered.back(), 6'000'000'000u);
}

TEST_F(RunLoopCards, WhenTheLastCardFailsTheUnitIsGivenBackAndTheCpuGoesOn) {
  bool broken = false;
  world.cards = {card("0000:01:00.0 A", [&] {
    if (broken) fail_as_card("0000:01:00.0");
  })};
  pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
    broken = broken || request.path == "/v1/leases";
    return {};
  };
  job.lease(job.unit());
  job.lease(job.unit());
  EXPECT_FALSE(run(1000, 1));
  ASSERT_EQ(pool.releases.size(), 1u);
  EXPECT_NE(pool.releases[0].find("no card is left: 0000:01:00.0: cuLaunchKernel"), std::string::npos)
      << pool.releases[0];
  EXPECT_EQ(logged("0000:01:00.0 A is left out: "), 1u) << log();
  EXPECT_EQ(pool.submissions.size(), 1u);
}

}  // namespace
}  // namespace agent
