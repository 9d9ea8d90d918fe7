#include "config.h"

#include <gtest/gtest.h>

#include "exit.h"
#include "run_command.h"
#include "temporary_folder.h"

namespace agent {
namespace {

class ConfigTest : public testing::Test {
 protected:
  Config read(const std::string& text) {
    fakes::write_file(folder.path / "config.json", text);
    return read_config(folder.path / "config.json");
  }
  fakes::TemporaryFolder folder;
};

template <class Body>
Failure failure_of(Body body) {
  try {
    body();
  } catch (const Failure& failure) {
    return failure;
  }
  return Failure(Exit::ok, "nothing was refused");
}

TEST_F(ConfigTest, ReadsEveryKey) {
  const Config config = read(R"({
    "pools": [{"url": "https://one:1", "user": "ann", "pass": "t", "rig-id": "r", "ca": "/ca", "pin": "00"},
              {"url": "https://two:2", "enabled": false}],
    "data": "/d", "threads": 3, "retry-pause": 2.5, "json": true, "colors": false, "cache-limit-mb": 1,
    "outbox-limit-mb": 2, "disk-reserve-mb": 3,
    "limits": {"parameters": 1, "memory-mb": 2, "tokens": 3, "steps": 4, "batch": 5, "context": 6, "download-mb": 7,
               "result-mb": 8, "seconds": 9}})");
  ASSERT_EQ(config.pools.size(), 2u);
  EXPECT_EQ(config.pools[0].url, "https://one:1");
  EXPECT_EQ(config.pools[0].user, "ann");
  EXPECT_EQ(config.pools[0].rig_id, "r");
  EXPECT_EQ(config.pools[0].pin, "00");
  EXPECT_FALSE(config.pools[1].enabled);
  EXPECT_EQ(config.data, "/d");
  EXPECT_EQ(config.threads, 3u);
  EXPECT_EQ(config.retry_pause, 2.5);
  EXPECT_TRUE(config.json);
  EXPECT_FALSE(config.colors);
  EXPECT_EQ(config.outbox_limit_mb, 2u);
  EXPECT_EQ(config.limits.context, 6u);
  EXPECT_EQ(config.limits.seconds, 9u);
}

TEST_F(ConfigTest, MistakesAreNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"treads": 2})", "\"treads\"; did you mean \"threads\"?"},
      {R"({"cuda": {}})", "\"cuda\"; known keys: cache-limit-mb"},
      {R"({"pools": [{"url": "https://a"}, {"usr": "x"}]})", "\"pools[1].usr\"; did you mean \"user\"?"},
      {R"({"limits": {"token": 2}})", "\"limits.token\"; did you mean \"tokens\"?"},
      {R"({"threads": "2"})", "\"threads\" must be a whole number, 0 or more, not \"2\""},
      {R"({"threads": -1})", "\"threads\" must be"},
      {R"({"cuda-devices": "0,1"})", "\"cuda-devices\" must be a list of numbers"},
      {R"({"cuda-devices": [0, -1]})", "\"cuda-devices\" must be a list of numbers"},
      {R"({"json": 1})", "\"json\" must be true or false"},
      {R"({"pools": {}})", "\"pools\" must be a list"},
      {R"({"pools": [3]})", "pools[0] must be an object"},
      {R"({"retry-pause": 0})", "\"retry-pause\" must be seconds"},
      {R"({"cache-limit-mb": 18446744073710})", "\"cache-limit-mb\" must be a whole number, at most 10^12"},
      {R"({"limits": {"memory-mb": 1000000000001}})", "\"limits.memory-mb\" must be a whole number, at most 10^12"},
      {R"({"data": 3})", "\"data\" must be a string"},
      {R"({"threads": 2)", "JSON"},
      {R"({"threads": 2, "threads": 3})", "threads"},
      {R"([1])", "object"},
      {"", "JSON"},
  };
  for (const auto& [text, expected] : cases) {
    const Failure failure = failure_of([&] { read(text); });
    EXPECT_EQ(failure.code, Exit::input) << text;
    const std::string message = failure.what();
    EXPECT_NE(message.find(expected), std::string::npos) << text << "\n" << message;
    EXPECT_NE(message.find("config.json"), std::string::npos) << message;
  }
  EXPECT_EQ(failure_of([&] { read_config(folder.path / "none.json"); }).code, Exit::input);
  EXPECT_EQ(failure_of([&] { read_config(folder.path); }).code, Exit::input);
}

RunOptions options_for(std::vector<std::string> urls) {
  RunOptions options;
  options.urls = std::move(urls);
  options.users = {"ann"};
  options.passes = {"token"};
  return options;
}

TEST_F(ConfigTest, FlagsGoOverTheFile) {
  fakes::write_file(folder.path / "config.json",
                    R"({"pools": [{"url": "https://file", "user": "a", "pass": "b"}], "threads": 3, "data": "/d"})");
  RunOptions options = options_for({"https://flag"});
  options.config = folder.path / "config.json";
  options.data = folder.path / "e";
  Config config = make_config(options);
  ASSERT_EQ(config.pools.size(), 1u);
  EXPECT_EQ(config.pools[0].url, "https://flag");
  EXPECT_EQ(config.threads, 3u);
  EXPECT_EQ(config.data, folder.path / "e");
  options.urls.clear();
  EXPECT_EQ(failure_of([&] { make_config(options); }).code, Exit::usage) << "-u without -o";
  options.users.clear();
  options.passes.clear();
  options.threads = 7;
  config = make_config(options);
  EXPECT_EQ(config.pools[0].url, "https://file");
  EXPECT_EQ(config.threads, 7u);
}

// Above 0 the limit is never rounded to 0, which is what is available.
TEST_F(ConfigTest, AMemoryLimitIsInWholeMegabytes) {
  const std::pair<uint64_t, uint64_t> limits[] = {{0, 0}, {1, 1}, {999'999, 1}, {2'500'000, 2}};
  fakes::write_file(folder.path / "config.json", R"({"limits": {"memory-mb": 7}})");
  RunOptions options = options_for({"https://pool:8443"});
  options.data = folder.path;
  options.config = folder.path / "config.json";
  EXPECT_EQ(make_config(options).limits.memory_mb, 7u);
  for (const auto& [bytes, megabytes] : limits) {
    options.memory_limit = bytes;
    EXPECT_EQ(make_config(options).limits.memory_mb, megabytes) << bytes;
  }
}

TEST_F(ConfigTest, CardsAreNumbers) {
  using Numbers = std::vector<uint64_t>;
  EXPECT_FALSE(read("{}").cuda_devices);
  EXPECT_EQ(read(R"({"cuda-devices": [2, 0]})").cuda_devices, (Numbers{2, 0}));
  EXPECT_EQ(read(R"({"cuda-devices": []})").cuda_devices, Numbers{});
  EXPECT_EQ(parse_cuda_devices("0,12"), (Numbers{0, 12}));
  EXPECT_EQ(parse_cuda_devices("none"), Numbers{});
  for (const char* wrong : {"", ",", "0,", "0 1", "-1", "cuda:0", "0000:01:00.0", "99999999999999999999"}) {
    const Failure failure = failure_of([&] { parse_cuda_devices(wrong); });
    EXPECT_EQ(failure.code, Exit::usage) << wrong;
    EXPECT_NE(std::string(failure.what()).find("--cuda-devices " + std::string(wrong) + ": "), std::string::npos);
  }
  fakes::write_file(folder.path / "config.json", R"({"cuda-devices": [3]})");
  RunOptions options = options_for({"https://pool:8443"});
  options.data = folder.path;
  options.config = folder.path / "config.json";
  EXPECT_EQ(make_config(options).cuda_devices, Numbers{3});
  options.cuda_devices = "1";
  EXPECT_EQ(make_config(options).cuda_devices, Numbers{1});
}

TEST_F(ConfigTest, ACardsTimeoutIsInSeconds) {
  EXPECT_EQ(read("{}").cuda_timeout, 60u);
  fakes::write_file(folder.path / "config.json", R"({"cuda-timeout": 90})");
  RunOptions options = options_for({"https://pool:8443"});
  options.data = folder.path;
  options.config = folder.path / "config.json";
  EXPECT_EQ(make_config(options).cuda_timeout, 90u);
  options.cuda_timeout = 3600;
  EXPECT_EQ(make_config(options).cuda_timeout, 3600u);
  for (const uint64_t wrong : {0, 3601}) {
    options.cuda_timeout = wrong;
    const Failure failure = failure_of([&] { make_config(options); });
    EXPECT_EQ(failure.code, Exit::input);
    EXPECT_EQ(failure.what(), "--cuda-timeout " + std::to_string(wrong) + ": 1 to 3600 seconds");
  }
}

TEST_F(ConfigTest, LinesOfSensorsAreSecondsApart) {
  EXPECT_EQ(read("{}").health_print_time, 60u);
  fakes::write_file(folder.path / "config.json", R"({"health-print-time": 0})");
  RunOptions options = options_for({"https://pool:8443"});
  options.data = folder.path;
  options.config = folder.path / "config.json";
  EXPECT_EQ(make_config(options).health_print_time, 0u);
  options.health_print_time = 3600;
  EXPECT_EQ(make_config(options).health_print_time, 3600u);
  options.health_print_time = 3601;
  const Failure failure = failure_of([&] { make_config(options); });
  EXPECT_EQ(failure.code, Exit::input);
  EXPECT_STREQ(failure.what(), "--health-print-time 3601: at most 3600 seconds");
}

TEST_F(ConfigTest, ValuesGoToPools) {
  RunOptions options = options_for({"https://one", "https://two"});
  options.users = {"ann", "bob"};
  options.data = folder.path;
  const Config config = make_config(options);
  EXPECT_EQ(config.pools[0].user, "ann");
  EXPECT_EQ(config.pools[1].user, "bob");
  EXPECT_EQ(config.pools[1].pass, "token");
  EXPECT_FALSE(config.pools[0].rig_id.empty()) << "the host's name";
  options.users.push_back("carl");
  EXPECT_EQ(failure_of([&] { make_config(options); }).code, Exit::usage);
}

TEST_F(ConfigTest, WhatRunNeedsIsChecked) {
  struct Case {
    const char* expected;
    Exit code;
    std::function<void(RunOptions&)> change;
  };
  const Case cases[] = {
      {"-o https://HOST:PORT", Exit::usage, [](RunOptions& o) { o = {}; }},
      {"only https", Exit::input, [](RunOptions& o) { o.urls = {"http://pool:1"}; }},
      {"only https", Exit::input, [](RunOptions& o) { o.urls = {"stratum+tcp://pool:1"}; }},
      {"scheme is missing", Exit::input, [](RunOptions& o) { o.urls = {"pool:8443"}; }},
      {"path", Exit::input, [](RunOptions& o) { o.urls = {"https://pool:8443/v1"}; }},
      {"https://HOST:PORT", Exit::input, [](RunOptions& o) { o.urls = {"https://pool:99999"}; }},
      {"-u", Exit::input, [](RunOptions& o) { o.urls = {"https://ann:t@pool"}; }},
      {"no account", Exit::input, [](RunOptions& o) { o.users.clear(); }},
      {"not a name", Exit::input, [](RunOptions& o) { o.users = {"a b"}; }},
      {"no token", Exit::input, [](RunOptions& o) { o.passes.clear(); }},
      {"rig name", Exit::input, [](RunOptions& o) { o.rig_ids = {"-"}; }},
      {"--pin must be", Exit::input, [](RunOptions& o) { o.pins = {"12"}; }},
      {"--ca /none cannot be read", Exit::input, [](RunOptions& o) { o.cas = {"/none"}; }},
      {"--threads 5000", Exit::input, [](RunOptions& o) { o.threads = 5000; }},
  };
  for (const Case& one : cases) {
    RunOptions options = options_for({"https://pool:8443"});
    one.change(options);
    const Failure failure = failure_of([&] { make_config(options); });
    EXPECT_EQ(failure.code, one.code) << one.expected;
    EXPECT_NE(std::string(failure.what()).find(one.expected), std::string::npos) << failure.what();
  }
}

}  // namespace
}  // namespace agent
