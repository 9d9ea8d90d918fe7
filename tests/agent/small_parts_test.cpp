// Backoff, rates, addresses, memory of a cgroup, the data folder.
#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "backoff.h"
#include "clock.h"
#include "data_folder.h"
#include "exit.h"
#include "log.h"
#include "rates.h"
#include "system_info.h"
#include "temporary_folder.h"
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

TEST(Url, NamesOfInterfacesAreRefused) {
  EXPECT_THROW(parse_pool_url("https://[fe80::1%25eth0]:8443"), Failure);
  EXPECT_EQ(parse_pool_url("https://[fe80::1]:8443").authority, "[fe80::1]:8443");
}

TEST(Url, AuthorityIsWhatTheHostHeaderSays) {
  EXPECT_EQ(parse_pool_url("https://Pool.Example:8443").authority, "pool.example:8443");
  EXPECT_EQ(parse_pool_url("https://pool.example").authority, "pool.example");
  EXPECT_EQ(parse_pool_url("https://pool.example:443/").authority, "pool.example");
  EXPECT_EQ(parse_pool_url("https://[::1]:8443").authority, "[::1]:8443");
  EXPECT_EQ(parse_pool_url("https://pool.example:8443").port, 8443);
}

TEST(CgroupRoom, IsOfTheNarrowestGroupAndFilesMakeWay) {
  const fakes::TemporaryFolder folder;
  const std::filesystem::path root = folder.path / "cgroup", group = root / "farm/rig";
  std::filesystem::create_directories(group);
  fakes::write_file(folder.path / "membership", "1:name=systemd:/other\n0::/farm/rig\n");
  const auto room = [&] { return cgroup_room(folder.path / "membership", root); };
  EXPECT_EQ(room(), UINT64_MAX);
  fakes::write_file(group / "memory.max", "max\n");
  fakes::write_file(group / "memory.current", "700\n");
  EXPECT_EQ(room(), UINT64_MAX);
  fakes::write_file(group / "memory.max", "1000\n");
  EXPECT_EQ(room(), 300u);
  fakes::write_file(group / "memory.stat", "anon 100\ninactive_file 250\nslab 9\nactive_file 150\n");
  EXPECT_EQ(room(), 700u) << "of 700 bytes 400 are files";
  fakes::write_file(root / "farm/memory.max", "2000\n");
  fakes::write_file(root / "farm/memory.current", "1900\n");
  EXPECT_EQ(room(), 100u) << "of the group above";
}

// The root of a file system has a folder that only root may read.
TEST(DataFolder, AFolderOfOthersInItDoesNotMatter) {
  const fakes::TemporaryFolder folder;
  constexpr uid_t nobody = 65534;
  std::filesystem::create_directory(folder.path / "lost+found");
  std::filesystem::permissions(folder.path / "lost+found", std::filesystem::perms::none);
  const bool is_root = geteuid() == 0;
  if (is_root) {
    ASSERT_EQ(chown(folder.path.c_str(), nobody, nobody), 0);
    ASSERT_EQ(seteuid(nobody), 0);
  }
  std::string problem;
  try {
    const DataFolder data(folder.path);
  } catch (const Failure& failure) {
    problem = failure.what();
  }
  if (is_root) {
    ASSERT_EQ(seteuid(0), 0);
  }
  EXPECT_EQ(problem, "");
  std::filesystem::permissions(folder.path / "lost+found", std::filesystem::perms::owner_all);
}

}  // namespace
}  // namespace agent
