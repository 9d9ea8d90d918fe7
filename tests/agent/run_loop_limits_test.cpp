// What a pool, or a system that lacks something, cannot make the loop do; over real TLS:
// tests/end_to_end/hostile_test.py.
#include "refused_threads.h"
#include "run_loop_fixture.h"
#include "system_info.h"

namespace agent {
namespace {

TEST_F(RunLoopTest, AResultThatTheDiskHasNoRoomForIsNotComputed) {
  job.lease(job.unit());
  const uint64_t megabyte = 1'000'000;
  pool.before = [&](const HttpRequest& request) -> std::optional<Error> {  // the disk fills while it leases
    if (request.path == "/v1/leases") config.disk_reserve_mb = disk_free(folder.path) / megabyte + 1000;
    return {};
  };
  EXPECT_FALSE(run(1));
  ASSERT_EQ(pool.releases.size(), 1u);
  EXPECT_NE(pool.releases[0].find("no room for its result"), std::string::npos) << pool.releases[0];
  EXPECT_EQ(pool.count("GET /v1/blobs/"), 0u);
}

TEST_F(RunLoopTest, AUnitThatTakesTwiceTheLimitIsGivenBack) {
  job.lease(job.unit());
  config.limits.seconds = 1000;
  pool.before = [this](const HttpRequest& request) -> std::optional<Error> {
    clock.tick = request.path.starts_with("/v1/blobs/") ? 900 : 0;  // from the last download to the release
    return {};
  };
  EXPECT_FALSE(run(1));
  ASSERT_EQ(pool.releases.size(), 1u);
  EXPECT_NE(pool.releases[0].find("takes more than 2000 s"), std::string::npos) << pool.releases[0];
  EXPECT_TRUE(pool.submissions.empty());
}

// For its heartbeat, and for itself: that is no failure of the disk.
TEST_F(RunLoopTest, AUnitThatTheSystemGivesNoThreadIsGivenBack) {
  std::optional<fakes::RefusedThreads> refused;
  std::string at;
  pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (request.path.rfind(at, 0) == 0 && pool.submissions.empty() && pool.releases.empty()) refused.emplace();
    if (request.path.ends_with("/release")) refused.reset();
    return {};
  };
  for (const char* request : {"/v1/leases", "/v1/blobs"}) {
    at = request;
    pool.releases.clear();
    pool.submissions.clear();
    std::filesystem::remove_all(folder.path / "cache");
    job.lease(job.unit());
    job.lease(job.unit());
    EXPECT_FALSE(run(1000, 1));
    EXPECT_EQ(pool.releases, std::vector<std::string>{"the system gives gradminer no thread (Resource temporarily "
                                                      "unavailable); its limit may be ulimit -u, TasksMax or the "
                                                      "memory"})
        << request << "\n"
        << log();
    EXPECT_EQ(pool.submissions.size(), 1u) << request;
  }
}

// The CPU's engine is made anew when it has been idle.
TEST_F(RunLoopTest, AUnitWhoseEngineGetsNoThreadsIsGivenBack) {
  int made = 0;
  world.make_ops = [&] {
    if (++made == 2) throw std::system_error(EAGAIN, std::generic_category(), "only 3 of 8 threads");
    return kernels::make_cpu_ops(1);
  };
  pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (request.path == "/v1/leases" && clock.now > 1000 + 60 && pool.submissions.empty()) job.lease(job.unit());
    return {};
  };
  EXPECT_FALSE(run(1000, 1)) << log();
  ASSERT_EQ(pool.releases.size(), 1u) << made << log();
  EXPECT_EQ(pool.releases[0].find("the system gives gradminer no thread (only 3 of 8 threads: Resource temporarily"),
            0u)
      << pool.releases[0];
  EXPECT_EQ(pool.submissions.size(), 1u);
}

// An old cache holds weights of more jobs than a request may name: it names the newest.
TEST_F(RunLoopTest, ALeaseRequestNamesAsManyWeightsAsItMay) {
  const std::filesystem::path weights = folder_of_pool("cache") / "weights";
  std::filesystem::create_directories(weights);
  const auto time = std::filesystem::file_time_type::clock::now();
  for (size_t i = 0; i < protocol::max_held + 10; ++i) {
    const std::filesystem::path file = weights / ("job" + std::to_string(i) + ".3.safetensors");
    fakes::write_file(file, "");
    std::filesystem::last_write_time(file, time - std::chrono::seconds(i));
  }
  EXPECT_FALSE(run(1));
  ASSERT_TRUE(pool.lease_request);
  ASSERT_EQ(pool.lease_request->held.size(), protocol::max_held);
  EXPECT_EQ(pool.lease_request->held.front().job, "job0");
}

TEST_F(RunLoopTest, NoSettlementsWithoutRoom) {
  pool.settlements.push_back(settlement(key.current.public_key()));
  config.disk_reserve_mb = disk_free(folder.path) / 1'000'000 + 1000;
  EXPECT_FALSE(run(1));
  EXPECT_EQ(receipts().last_settlement(), 0u);
  EXPECT_EQ(logged("is full"), 1u) << log();
}

TEST_F(RunLoopTest, MoreSettlementsThanAnAnswerMayHaveAreNone) {
  for (uint64_t i = 0; i <= protocol::max_settlements; ++i) {
    pool.settlements.push_back(settlement(key.current.public_key(), {}, i + 1));
  }
  int asked = 0;
  pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (!request.path.starts_with("/v1/settlements/") || ++asked != 2) return {};
    EXPECT_EQ(receipts().last_settlement(), 0u);
    pool.settlements.pop_back();
    return {};
  };
  EXPECT_FALSE(run(20));
  EXPECT_EQ(logged("has 501 entries"), 1u) << log();
  EXPECT_EQ(receipts().last_settlement(), protocol::max_settlements);
}

TEST_F(RunLoopTest, ASettlementOfAnotherRigEndsTheWork) {
  pool.settlements.push_back(settlement(protocol::PrivateKey::generate().public_key()));
  const std::optional<Failure> failure = run(1);
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Exit::refused);
  EXPECT_EQ(receipts().last_settlement(), 0u);
}

}  // namespace
}  // namespace agent
