// The loop with two pools.
#include "run_loop_fixture.h"

namespace agent {
namespace {

class RunLoopPools : public RunLoopTest {
 protected:
  RunLoopPools() {
    config.pools.push_back({"https://second.test:8443", "ann", "token", "rig", "", "", true});
    connect = [this](const PoolConfig& p) {
      return p.url.find("second") != std::string::npos ? second.transport() : pool.transport();
    };
    pool.before = [this](const HttpRequest&) -> std::optional<Error> {
      if (first_is_down) throw unreachable();
      return {};
    };
  }

  fakes::FakePool second;
  TinyJob second_job{second};
  bool first_is_down = true;
};

TEST_F(RunLoopPools, FailoverAndReturn) {
  clock.on_sleep = [&] {
    if (clock.sleeps.size() == 3) first_is_down = false;
    if (clock.sleeps.size() == 12) stop.request();
  };
  RunLoop(config, key, 0, world).run();
  EXPECT_GE(second.count("POST /v1/leases"), 3u) << "work from the second pool meanwhile";
  EXPECT_GE(pool.count("POST /v1/leases"), 3u) << "and back to the first";
  EXPECT_EQ(logged("next attempt in"), pool.count("GET /v1/pool") - 1);
}

TEST_F(RunLoopPools, OneOfTwoMayRefuse) {
  pool.before = [](const HttpRequest& request) -> std::optional<Error> {
    if (request.path == "/v1/rigs") return Error(ErrorCode::key_revoked, "revoked by the operator");
    return {};
  };
  EXPECT_FALSE(run(5));
  EXPECT_EQ(pool.calls.size(), 2u) << "asked once";
  EXPECT_GE(second.count("POST /v1/leases"), 4u);
}

// The second pool gives a unit and goes away. When both are back, the rig works for the first one again.
TEST_F(RunLoopPools, WhatWaitsForAnotherIsSent) {
  second_job.lease(second_job.unit());
  bool second_is_down = false;
  second.before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (first_is_down && request.method == "PUT") first_is_down = false, second_is_down = true;
    if (second_is_down) throw unreachable();
    return {};
  };
  pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (first_is_down) throw unreachable();
    if (request.path == "/v1/leases") second_is_down = false;
    return {};
  };
  clock.on_sleep = [&] {
    if (clock.now > 1000 + 300) stop.request();
  };
  RunLoop(config, key, 0, world).run();
  EXPECT_EQ(second.submissions.size(), 1u) << log();
  EXPECT_EQ(second.count("POST /v1/leases"), 1u) << "it is not asked for more";
}

TEST_F(RunLoopPools, WhatWaitsForAnotherSinceAnEarlierProcessIsSent) {
  second_job.lease(second_job.unit());
  bool second_is_down = true;
  second.before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (second_is_down && request.method == "PUT") throw unreachable();
    return {};
  };
  EXPECT_FALSE(run(3));
  EXPECT_TRUE(second.submissions.empty());
  first_is_down = second_is_down = false;
  const size_t asked = second.count("POST /v1/leases");

  Stop new_stop;
  Surroundings again = restarted(new_stop);
  clock.on_sleep = [&] { new_stop.request(); };
  RunLoop(config, key, 0, again).run();
  EXPECT_EQ(second.submissions.size(), 1u) << log();
  EXPECT_EQ(second.count("POST /v1/leases"), asked) << "it is not asked for more";
}

// Nothing that passes, as a proxy's answer or a certificate that has run out, makes it lost for this process.
TEST_F(RunLoopPools, AVisitThatFailsIsTriedAgain) {
  second_job.lease(second_job.unit());
  std::optional<TransportError> failure = unreachable();
  second.before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (failure && (request.method == "PUT" || failure->kind == TransportError::Kind::tls)) throw *failure;
    return {};
  };
  EXPECT_FALSE(run(3));
  EXPECT_EQ(second.submissions.size(), 0u);
  first_is_down = false;
  failure.emplace(TransportError::Kind::tls, "its certificate has expired");
  fakes::write_file(folder.path / "pools/another.json", "damaged");

  Stop new_stop;
  Surroundings again = restarted(new_stop);
  const double begin = clock.now;
  clock.on_sleep = [&] {
    if (clock.now > begin + 100) failure.reset();
    if (clock.now > begin + 400) new_stop.request();
  };
  RunLoop(config, key, 0, again).run();
  EXPECT_GE(logged("its certificate has expired; next attempt"), 1u) << log();
  EXPECT_EQ(second.submissions.size(), 1u) << log();
}

// One that is away does not keep the rig from its work, nor fill the log.
TEST_F(RunLoopPools, AnotherThatIsAwayIsTriedSeldom) {
  second_job.lease(second_job.unit());
  second.before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (request.method == "PUT") first_is_down = false;
    if (!first_is_down) throw unreachable();
    return {};
  };
  clock.on_sleep = [&] {
    if (clock.now > 1000 + 900) stop.request();
  };
  RunLoop(config, key, 0, world).run();
  EXPECT_TRUE(second.submissions.empty());
  EXPECT_GE(pool.count("POST /v1/leases"), 100u);
  EXPECT_GE(second.count("GET /v1/pool"), 4u);
  EXPECT_LE(second.count("GET /v1/pool"), 15u);
}

}  // namespace
}  // namespace agent
