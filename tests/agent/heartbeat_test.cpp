#include "heartbeat.h"

#include <gtest/gtest.h>

#include "fake_pool.h"
#include "manual_clock.h"
#include "refused_threads.h"

namespace agent {
namespace {

using namespace std::chrono_literals;

class HeartbeatTest : public testing::Test {
 protected:
  HeartbeatTest() { client.set_pool_id(pool.pool_id); }

  // True when the heartbeat said within 5 s that the unit is not wanted.
  static bool ends(const Heartbeat& heartbeat) {
    for (int i = 0; i < 500 && heartbeat.wanted(); ++i) std::this_thread::sleep_for(10ms);
    return !heartbeat.wanted();
  }

  fakes::FakePool pool;
  fakes::ManualClock clock;
  std::unique_ptr<Transport> transport = pool.transport();
  PoolClient client{*transport, protocol::PrivateKey::generate(), clock};
};

TEST_F(HeartbeatTest, LearnsThatAUnitIsNotWanted) {
  pool.wanted = false;
  Heartbeat heartbeat(client, std::string(32, 'a'), 1, [] { return 0.5; });
  EXPECT_TRUE(heartbeat.wanted());
  EXPECT_TRUE(ends(heartbeat));
  EXPECT_FALSE(heartbeat.refusal());
}

TEST_F(HeartbeatTest, LearnsThatItsLeaseIsGoneOrItsKeyRevoked) {
  auto code = protocol::ErrorCode::lease_unknown;
  pool.before = [&](const HttpRequest&) { return protocol::Error(code, "no"); };
  {
    Heartbeat heartbeat(client, std::string(32, 'a'), 1, [] { return 0.5; });
    EXPECT_TRUE(ends(heartbeat));
    EXPECT_FALSE(heartbeat.refusal());
  }
  code = protocol::ErrorCode::key_revoked;
  Heartbeat heartbeat(client, std::string(32, 'a'), 1, [] { return 0.5; });
  EXPECT_TRUE(ends(heartbeat));
  ASSERT_TRUE(heartbeat.refusal());
  EXPECT_TRUE(heartbeat.refusal()->is(protocol::ErrorCode::key_revoked));
}

TEST_F(HeartbeatTest, OutlivesAPoolOutOfReach) {
  std::atomic<int> calls = 0;
  pool.before = [&](const HttpRequest&) -> std::optional<protocol::Error> {
    if (++calls < 3) throw TransportError(TransportError::Kind::unreachable, "nobody there");
    pool.wanted = false;
    return {};
  };
  Heartbeat heartbeat(client, std::string(32, 'a'), 1, [] { return 0.5; });
  EXPECT_TRUE(ends(heartbeat));
  EXPECT_GE(calls, 3);
}

TEST_F(HeartbeatTest, WithoutAThreadItLeavesNothingInTheClient) {
  {
    const fakes::RefusedThreads refused;
    EXPECT_THROW(Heartbeat(client, std::string(32, 'a'), 1, [] { return 0.5; }), std::system_error);
  }
  bool asks = true;
  pool.before = [&](const HttpRequest& request) -> std::optional<protocol::Error> {
    asks = request.cancelled != nullptr;
    return {};
  };
  client.renew(std::string(32, 'a'), 0.5);
  EXPECT_FALSE(asks);
}

TEST_F(HeartbeatTest, EndsAtOnce) {
  const auto begin = std::chrono::steady_clock::now();
  {
    Heartbeat heartbeat(client, std::string(32, 'a'), 600, [] { return 0.5; });
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 2s);
  EXPECT_TRUE(pool.calls.empty());
}

}  // namespace
}  // namespace agent
