// The loop on a rig with cards.
#include <chrono>
#include <future>
#include <set>
#include <thread>

#include "copying_links.h"
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

// Memory that others hold, and threads that the system refuses: after 30 seconds that is so still, after 60 no more.
TEST_F(RunLoopCards, CardsThatLackSomethingAtTheStartAreTriedAgain) {
  int tried = 0;
  const auto lacking = [&](std::function<void()> lack) -> LaneWorker::MakeOps {
    return [this, &tried, lack] {
      ++tried;
      if (clock.now < 1055) lack();
      return std::make_unique<CpuAsCard>(nullptr);
    };
  };
  const std::error_code refused = std::make_error_code(std::errc::resource_unavailable_try_again);
  const auto run_out = [] { run_out_as_card("0000:02:00.0"); };
  const auto in_self_test = [this, run_out] {
    if (clock.now < 1055) run_out();
  };
  world.cards = {card("0000:01:00.0 A"),
                 {"0000:02:00.0 B", lacking(run_out)},
                 {"0000:03:00.0 C", lacking([&] { throw std::system_error(refused); })},
                 card("0000:04:00.0 D", in_self_test)};
  job.lease(job.unit());
  EXPECT_FALSE(run(15));
  EXPECT_EQ(pool.submissions.size(), 1u) << "the others compute meanwhile";
  EXPECT_EQ(logged("0000:02:00.0 B does not compute yet: has no card: 0000:02:00.0: 4 bytes: cuMemAlloc_v2: out of "
                   "memory (CUDA_ERROR_OUT_OF_MEMORY, 2); it is tried again every 30 s"),
            1u)
      << log();
  EXPECT_EQ(logged("0000:03:00.0 C does not compute yet: the system gives gradminer no thread ("), 1u) << log();
  EXPECT_EQ(logged("0000:04:00.0 D does not compute yet: has no card: 0000:04:00.0 D: the unit needs "), 1u) << log();
  EXPECT_EQ(logged("does not compute yet"), 3u) << "not again and again";
  EXPECT_EQ(tried, 2 * 3) << "at 0, 30 and 60 seconds";
  for (const char* name : {"A", "B", "C", "D"}) {
    EXPECT_EQ(logged(std::string(name) + ": self-test passed ("), 1u) << name << "\n" << log();
  }
  EXPECT_EQ(logged("is left out"), 0u);
}

TEST_F(RunLoopCards, TheCpuComputesUntilACardHasWhatItLacked) {
  bool full = true;
  world.cards = {card("0000:01:00.0 A", [&] {
    if (full) run_out_as_card("0000:01:00.0");
  })};
  job.lease(job.unit());
  clock.on_sleep = [&] {
    if (!std::exchange(full, false)) return;
    clock.now += 30;
    job.lease(job.unit());
  };
  EXPECT_FALSE(run(1000, 2));
  EXPECT_EQ(pool.submissions.size(), 2u);
  EXPECT_EQ(logged("tokens, planned memory"), 1u) << log();
  EXPECT_EQ(logged("tokens, 1 card, planned memory"), 1u) << log();
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
  EXPECT_EQ(logged("0000:01:00.0 A is left out: tiny.0.t0: 0000:01:00.0: cuLaunchKernel: "), 1u) << log();
  EXPECT_EQ(pool.submissions.size(), 1u);
}

// There is no smaller plan for a model of one layer.
TEST_F(RunLoopCards, ACardThatIsShortOfMemoryTakesTheNextUnit) {
  bool full = false;
  world.cards = {card("0000:01:00.0 A", [&] {
    if (full) run_out_as_card("0000:01:00.0");
  })};
  pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
    full = pool.releases.empty() && (full || request.path == "/v1/leases");
    return {};
  };
  job.lease(job.unit());
  job.lease(job.unit());
  EXPECT_FALSE(run(1000, 1));
  ASSERT_EQ(pool.releases.size(), 1u);
  EXPECT_EQ(pool.releases[0].rfind("has no card: 0000:01:00.0 A: the unit needs ", 0), 0u) << pool.releases[0];
  EXPECT_EQ(logged("0000:01:00.0 A is short of memory: tiny.0.t0: 0000:01:00.0: 4 bytes: cuMemAlloc_v2: "), 2u)
      << "with the sums of lanes, and without: " << log();
  EXPECT_EQ(logged("is left out"), 0u) << log();
  EXPECT_EQ(logged("self-test passed ("), 1u) << "neither the card's again nor the CPU's";
  EXPECT_EQ(pool.submissions.size(), 1u);
}

// Four cards, which take part in this order, and leases of units of two lanes.
class RunLoopSeveralUnits : public RunLoopCards {
 protected:
  class Sized : public CpuAsCard {
   public:
    Sized(std::function<void()> before, size_t bytes) : CpuAsCard(std::move(before)), bytes_(bytes) {}
    size_t free_bytes() override { return bytes_; }

   private:
    const size_t bytes_;
  };

  RunLoopSeveralUnits() {
    size_t bytes = 12'000'000'000;
    for (const char* name : {"0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:04:00.0"}) {
      const auto hook = [this, name] {
        if (in_work) before_product(name);
      };
      world.cards.push_back({name, [=] { return std::make_unique<Sized>(hook, bytes); }});
      bytes -= 1'000'000'000;
    }
    config.limits.seconds = 1'000'000'000;  // the clock runs ahead of what is computed
    pool.before = [this](const HttpRequest& request) -> std::optional<Error> {
      in_work = in_work || request.path == "/v1/leases";  // the self-tests are over
      return before(request);
    };
  }
  protocol::Lease lease(uint64_t number, uint64_t lanes = 2) {
    protocol::Unit unit = job.unit();
    unit.tokens = unit.tokens / unit.lanes * lanes;
    unit.lanes = lanes;
    unit.shards.resize(lanes, job.shard);
    unit.index = number;
    unit.name = protocol::unit_name(unit.job, unit.round, unit.kind, number);
    unit.first_lane = number * unit.lanes;
    const std::string id(32, static_cast<char>('a' + number));
    pool.leases.push_back({protocol::Lease{id, 1, 1, 900, unit}, std::nullopt});
    return *pool.leases.back().lease;
  }
  std::vector<protocol::Digest> results() {
    std::sort(pool.submissions.begin(), pool.submissions.end(),
              [](const auto& a, const auto& b) { return a.unit < b.unit; });
    std::vector<protocol::Digest> digests;
    for (const protocol::Submission& submission : pool.submissions) digests.push_back(submission.result.digest);
    pool.submissions.clear();
    return digests;
  }

  // Something that threads wait for; false where it has not come within 20 seconds.
  class Event {
   public:
    void set() {
      if (!std::exchange(is_set_, true)) promise_.set_value();
    }
    bool wait() const { return future_.wait_for(std::chrono::seconds(20)) == std::future_status::ready; }

   private:
    bool is_set_ = false;
    std::promise<void> promise_;
    std::shared_future<void> future_ = promise_.get_future().share();
  };

  std::function<void(const std::string& card)> before_product = [](const std::string&) {};
  std::function<std::optional<Error>(const HttpRequest&)> before = [](const HttpRequest&) { return std::nullopt; };
  std::atomic<bool> in_work = false;
};

TEST_F(RunLoopSeveralUnits, CardsBeyondAUnitsLanesWorkOnAnother) {
  const auto cards = std::exchange(world.cards, {});
  for (uint64_t number : {0, 1}) lease(number);
  EXPECT_FALSE(run(1, 2));
  const std::vector<protocol::Digest> expected = results();  // the CPU's

  world.cards = cards;
  in_work = false;
  const std::string first = lease(0).lease, second = lease(1).lease;
  Event both_renewed;
  std::set<std::string> renewed;
  before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (request.path.ends_with("/renewal")) renewed.insert(request.path);
    if (renewed.size() == 2) both_renewed.set();
    return {};
  };
  before_product = [&](const std::string& name) { EXPECT_TRUE(both_renewed.wait()) << name; };
  EXPECT_FALSE(run(1, 2));
  EXPECT_EQ(results(), expected);
  EXPECT_EQ(pool.lease_request->leases, std::vector<std::string>{first}) << "the second request says what is in work";
  EXPECT_EQ(renewed, (std::set<std::string>{"/v1/leases/" + first + "/renewal", "/v1/leases/" + second + "/renewal"}));
  EXPECT_EQ(logged("tokens, 2 cards, planned memory"), 2u) << log();
  EXPECT_EQ(receipts().receipts().size(), 2u);
}

// Of units side by side and one after the other; the links of the test see to it that no card has two.
TEST_F(RunLoopSeveralUnits, TheirCardsAreLinkedInSets) {
  const auto lease_all = [this] { lease(0), lease(1), lease(2, 4); };
  const auto cards = std::exchange(world.cards, {});
  lease_all();
  EXPECT_FALSE(run(1, 3));
  const std::vector<protocol::Digest> expected = results();  // the CPU's

  world.cards = cards;
  in_work = false;
  Seen seen;
  world.make_links = copying_links(seen);
  lease_all();
  before_product = [&](const std::string& name) {
    for (int i = 0; seen.most_alive < 2 && i < 20'000; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_EQ(seen.most_alive, 2) << name;
  };
  EXPECT_FALSE(run(1, 3));
  EXPECT_EQ(results(), expected);
  EXPECT_GE(seen.linked, 2);
  EXPECT_GT(seen.floats, 0u);
  EXPECT_EQ(seen.alive, 0) << "the cards are free";
}

TEST_F(RunLoopSeveralUnits, IdleCardsGoOnAskingForWork) {
  lease(0);
  Event asked_again;
  clock.on_sleep = [&] { lease(1); };
  before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (request.path == "/v1/leases" && pool.count("POST /v1/leases") == 3) asked_again.set();
    return {};
  };
  before_product = [&](const std::string& name) { EXPECT_TRUE(asked_again.wait()) << name; };
  EXPECT_FALSE(run(1000, 2));
  EXPECT_EQ(pool.submissions.size(), 2u);
  ASSERT_FALSE(clock.sleeps.empty());
  EXPECT_EQ(clock.sleeps.front(), 5) << "as long as the pool asks for";
}

TEST_F(RunLoopSeveralUnits, AUnitWhoseCardsFailIsGivenBackAndTheOtherGoesOn) {
  lease(0);
  lease(1);
  Event all_have_work, given_back;
  before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (pool.count("POST /v1/leases") == 2) all_have_work.set();
    if (request.path.ends_with("/release")) given_back.set();
    return {};
  };
  before_product = [&](const std::string& name) {
    EXPECT_TRUE(all_have_work.wait()) << name;
    if (name < "0000:03") fail_as_card(name);
    EXPECT_TRUE(given_back.wait()) << name;
  };
  clock.on_sleep = [&] {
    if (pool.submissions.size() == 1) stop.request();
  };
  EXPECT_FALSE(run());
  ASSERT_EQ(pool.releases.size(), 1u) << log();
  EXPECT_EQ(pool.releases[0].rfind("its cards have failed, and the others have work: 0000:0", 0), 0u)
      << pool.releases[0];
  ASSERT_EQ(pool.submissions.size(), 1u);
  EXPECT_EQ(pool.submissions[0].unit, "tiny.0.t1");
  EXPECT_EQ(logged("is left out: "), 2u) << log();
  EXPECT_EQ(logged("self-test passed ("), 4u) << "the CPU is not needed";
}

// Of one lane, so of one card: the first two that are lent to it fail.
TEST_F(RunLoopSeveralUnits, AUnitWhoseCardFailsIsComputedByOneThatHasNoWork) {
  const auto cards = std::exchange(world.cards, {});
  lease(0, 1);
  EXPECT_FALSE(run(1, 1));
  const std::vector<protocol::Digest> expected = results();  // the CPU's

  world.cards = cards;
  in_work = false;
  lease(0, 1);
  before_product = [](const std::string& name) {
    if (name < "0000:03") fail_as_card(name);
  };
  EXPECT_FALSE(run(1, 1));
  EXPECT_EQ(results(), expected);
  EXPECT_TRUE(pool.releases.empty()) << pool.releases[0];
  EXPECT_TRUE(clock.sleeps.empty()) << "nothing is waited for";
  EXPECT_EQ(pool.count("POST /v1/leases"), 2u);
  EXPECT_EQ(logged(" is left out: tiny.0.t0: "), 2u) << log();
  EXPECT_EQ(logged("tokens, 1 card, planned memory"), 3u) << log();
}

TEST_F(RunLoopSeveralUnits, AStopGivesAllBack) {
  lease(0);
  lease(1);
  std::mutex mutex;
  std::set<std::string> computing;
  Event all_compute;
  before_product = [&](const std::string& name) {
    {
      const std::lock_guard lock(mutex);
      computing.insert(name);
      if (computing.size() == 4) all_compute.set();
    }
    EXPECT_TRUE(all_compute.wait()) << name;
    stop.request();
  };
  EXPECT_FALSE(run());
  EXPECT_EQ(pool.releases, std::vector<std::string>(2, "the agent is stopping"));
  EXPECT_TRUE(pool.submissions.empty());
}

TEST_F(RunLoopSeveralUnits, NoMoreUnitsThanWanted) {
  lease(0);
  lease(1);
  EXPECT_FALSE(run(1000, 1));
  EXPECT_EQ(pool.submissions.size(), 1u);
  EXPECT_EQ(pool.count("POST /v1/leases"), 1u);
}

// One card of four would take three times as long for a unit of three lanes, and its round would wait.
TEST_F(RunLoopSeveralUnits, AFewCardsThatAreLeftTakeNoUnit) {
  lease(0, 3);
  lease(1, 3);
  std::vector<size_t> submitted;  // when a lease was asked for
  before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (request.path == "/v1/leases") submitted.push_back(pool.submissions.size());
    return {};
  };
  EXPECT_FALSE(run(1000, 2));
  EXPECT_EQ(submitted, (std::vector<size_t>{0, 1})) << log();
  EXPECT_EQ(logged("tokens, 3 cards, planned memory"), 2u) << log();
}

// A pool that is given up: what is in work for it ends.
TEST_F(RunLoopSeveralUnits, UnitsOfAPoolThatIsDroppedEnd) {
  lease(0);
  lease(1);
  std::atomic<bool> dropped = false;
  before_product = [&, ends = std::chrono::steady_clock::now() + std::chrono::seconds(20)](const std::string& name) {
    while (!dropped && std::chrono::steady_clock::now() < ends) std::this_thread::yield();
    EXPECT_TRUE(dropped) << name;
  };
  before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (request.path != "/v1/leases" || pool.count("POST /v1/leases") != 2) return {};
    dropped = true;
    return Error(ErrorCode::agent_too_old, "0.2.0 is needed");
  };
  const std::optional<Failure> failure = run();
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Exit::refused);
  EXPECT_TRUE(pool.submissions.empty());
  EXPECT_TRUE(pool.releases.empty());
}

// What each needs of the host's memory counts, or a rig with little would lease units and give them back for ever.
TEST_F(RunLoopSeveralUnits, NoMoreUnitsThanTheHostHasMemoryFor) {
  TinyJob large(pool, 40'000);
  job.config = large.config;
  job.rounds = large.rounds;
  job.checkpoint = large.checkpoint;
  const uint64_t weights = kernels::parameter_count(job.config) * sizeof(float);
  config.limits.memory_mb = 9 * weights / 1'000'000;  // one plans some six times its weights
  lease(0);
  lease(1);
  std::vector<size_t> submitted;  // when a lease was asked for
  before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (request.path == "/v1/leases") submitted.push_back(pool.submissions.size());
    return {};
  };
  EXPECT_FALSE(run(1000, 2));
  EXPECT_EQ(submitted, (std::vector<size_t>{0, 1})) << log();
  EXPECT_TRUE(pool.releases.empty());
}

// Of a unit's two cards the first fails; from then on looks are at the other alone, which waits until there were some.
TEST_F(RunLoopSeveralUnits, SensorsOfCardsInWorkAreReadUntilTheyFail) {
  Event both, one;
  std::set<std::string> seen;
  int in_a_row = 0;  // at the second card
  const auto read = [&](const std::string& bus_id) {
    seen.insert(bus_id);
    in_a_row = bus_id == "0000:02:00.0" ? in_a_row + 1 : 0;
    if (seen.size() == 2) both.set();
    if (in_a_row == 5) one.set();
    return kernels::CardHealth{};
  };
  world.open_sensors = [&] { return kernels::CardSensors{"12", read}; };
  world.seconds_between_health = 0.001;
  before_product = [&](const std::string& name) {
    const bool looked_at = both.wait() && (name == "0000:01:00.0" || one.wait());
    if (name == "0000:01:00.0" || !looked_at) fail_as_card(name);
  };
  lease(0);
  EXPECT_FALSE(run(1, 1));
  EXPECT_EQ(pool.submissions.size(), 1u) << log();
  EXPECT_EQ(logged("0000:01:00.0 is left out"), 1u);
  EXPECT_EQ(seen, (std::set<std::string>{"0000:01:00.0", "0000:02:00.0"})) << "of four cards two had work";
}

}  // namespace
}  // namespace agent
