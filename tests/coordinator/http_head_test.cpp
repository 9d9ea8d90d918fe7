// The pure parts of the HTTP server.
#include <gtest/gtest.h>

#include "errors.h"
#include "http_head.h"
#include "rate_limiter.h"

namespace pool {
namespace {

TEST(HttpHead, FlawsBeyondTheParser) {
  EXPECT_EQ(flaw_of_head("GET / HTTP/1.1\r\nA: b\tc\r\n\r\n"), nullptr);
  EXPECT_EQ(flaw_of_head("\r\n\r\n"), nullptr);
  for (const char* head :
       {"", "\r\n", "GET / HTTP/1.1\n\n", "A: b\n\r\n\r\n", "A: b\rC: d\r\n\r\n", "A: b\r\r\n\r\n",
        "A: b\r\n c\r\n\r\n", "A: b\r\n\tc\r\n\r\n", " A: b\r\n\r\n", "A: \x01\r\n\r\n", "A: \x7f\r\n\r\n"}) {
    EXPECT_NE(flaw_of_head(head), nullptr) << head;
  }
  EXPECT_NE(flaw_of_head(std::string_view("A: \0\r\n\r\n", 8)), nullptr);
}

TEST(HttpRange, FormsAndBounds) {
  using Range = std::pair<uint64_t, uint64_t>;
  EXPECT_EQ(parse_range("bytes=0-", 10), (Range{0, 9}));
  EXPECT_EQ(parse_range("bytes=9-", 10), (Range{9, 9}));
  EXPECT_EQ(parse_range("bytes=2-5", 10), (Range{2, 5}));
  EXPECT_EQ(parse_range("bytes=2-18446744073709551615", 10), (Range{2, 9}));
  for (const char* ignored : {"", "bytes", "bytes=", "bytes=-", "bytes=-5", "bytes=5", "bytes=5-4", "bytes=1-2,4-5",
                              "bytes= 1-2", "bytes=1-2 ", "bytes=+1-2", "bytes=18446744073709551616-", "items=1-2"}) {
    EXPECT_EQ(parse_range(ignored, 10), std::nullopt) << ignored;
  }
  EXPECT_THROW(parse_range("bytes=10-", 10), std::out_of_range);
  EXPECT_THROW(parse_range("bytes=0-", 0), std::out_of_range);
}

TEST(HttpAddress, HostAndPort) {
  using Address = std::pair<std::string, uint16_t>;
  EXPECT_EQ(split_address("127.0.0.1:8443"), (Address{"127.0.0.1", 8443}));
  EXPECT_EQ(split_address("[::1]:0"), (Address{"::1", 0}));
  EXPECT_EQ(split_address("pool.example:65535"), (Address{"pool.example", 65535}));
  for (const char* wrong : {"", ":", ":80", "host", "host:", "host:65536", "host:-1", "host:8x", "::1:80", "[]:80"}) {
    EXPECT_THROW(split_address(wrong), Failure) << wrong;
  }
  for (const char* host : {"127.0.0.1", "127.8.8.8", "::1", "localhost"}) EXPECT_TRUE(is_loopback(host)) << host;
  for (const char* host : {"0.0.0.0", "::", "10.0.0.1", "pool.example"}) EXPECT_FALSE(is_loopback(host)) << host;
}

TEST(RateLimiter, BurstThenRatePerAsker) {
  RateLimiter limiter(2, 3);
  RateLimiter::Time now{};
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(limiter.take("a", now));
  EXPECT_FALSE(limiter.take("a", now));
  EXPECT_TRUE(limiter.take("b", now));
  now += std::chrono::milliseconds(600);
  EXPECT_TRUE(limiter.take("a", now));
  EXPECT_FALSE(limiter.take("a", now));
  for (int i = 0; i < 5000; ++i) limiter.take("other " + std::to_string(i), now);  // sweeps full buckets only
  EXPECT_FALSE(limiter.take("a", now));
  now += std::chrono::hours(1);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(limiter.take("a", now));
  EXPECT_FALSE(limiter.take("a", now)) << "no more than the burst is saved up";
}

}  // namespace
}  // namespace pool
