// Backoff, rates, addresses.
#include <gtest/gtest.h>

#include <thread>

#include "backoff.h"
#include "clock.h"
#include "exit.h"
#include "log.h"
#include "rates.h"
#include "url.h"

namespace agent {
namespace {

TEST(Backoff, DoublesToFiveMinutesWithJitter) {
  Backoff backoff(1, 42), other(1, 43);
  double whole = 1;
  bool differs = false;
  for (int i = 0; i < 14; ++i) {
    const double wait = backoff.next();
    EXPECT_GE(wait, whole / 2);
    EXPECT_LE(wait, whole);
    differs = differs || wait != other.next();
    whole = std::min(2 * whole, 300.0);
  }
  EXPECT_TRUE(differs) << "rigs must not come back all at once";
  backoff.reset();
  EXPECT_LE(backoff.next(), 1);
}

TEST(Printable, IsCutBetweenCharacters) {
  EXPECT_EQ(printable("a line\nand \x1b[31mred"), "a line and  [31mred");
  EXPECT_EQ(printable(std::string(500, 'a')), std::string(500, 'a'));
  EXPECT_EQ(printable(std::string(499, 'a') + "é"), std::string(497, 'a') + "…");
  EXPECT_EQ(printable(std::string(496, 'a') + "éé and more"), std::string(496, 'a') + "…");
}

TEST(Stop, WakingEndsOneWait) {
  Stop stop;
  stop.wake();
  stop.wait(1e6);
  std::thread waker([&] { stop.wake(); });
  stop.wait(1e6);
  waker.join();
  EXPECT_FALSE(stop.requested());
  stop.request();
  stop.wait(1e6);
  stop.wait(1e6);
}

TEST(Rates, WindowsForgetWhatIsOlder) {
  Rates rates;
  EXPECT_EQ(rates.per_second(5, 10), 0);
  for (int second = 0; second < 100; ++second) rates.add(second, second < 50 ? 1000 : 100);
  EXPECT_NEAR(rates.per_second(99.5, 10), 100, 11);
  EXPECT_NEAR(rates.per_second(99.5, 60), (10 * 1000 + 50 * 100) / 60.0, 20);
  EXPECT_NEAR(rates.per_second(99.5, 900), 55'000 / 99.5, 1) << "since the beginning";
  EXPECT_EQ(rates.per_second(5000, 10), 0) << "a rig that stopped has no rate";
}

TEST(Rates, AreShort) {
  EXPECT_EQ(human_rate(0), "0");
  EXPECT_EQ(human_rate(9999), "9999");
  EXPECT_EQ(human_rate(12'340), "12.3k");
  EXPECT_EQ(human_rate(4'560'000), "4.56M");
}

TEST(Url, PortZeroIsRefused) { EXPECT_THROW(parse_pool_url("https://pool.example:0"), Failure); }

TEST(Url, AuthorityIsWhatTheHostHeaderSays) {
  EXPECT_EQ(parse_pool_url("https://Pool.Example:8443").authority, "pool.example:8443");
  EXPECT_EQ(parse_pool_url("https://pool.example").authority, "pool.example");
  EXPECT_EQ(parse_pool_url("https://pool.example:443/").authority, "pool.example");
  EXPECT_EQ(parse_pool_url("https://[::1]:8443").authority, "[::1]:8443");
  EXPECT_EQ(parse_pool_url("https://pool.example:8443").port, 8443);
}

}  // namespace
}  // namespace agent
