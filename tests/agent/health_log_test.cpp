// What the log says of the cards' sensors.
#include "health_log.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <future>
#include <sstream>
#include <system_error>

#include "refused_threads.h"

namespace agent {
namespace {

constexpr char only_card[] = "0000:01:00.0 GTX 1060";
constexpr double at_once = 0.001;  // seconds between looks
constexpr auto in_vain = std::chrono::seconds(20);

kernels::CardHealth hot(const kernels::Slowdown& slowdown = {.heat = true}) {
  kernels::CardHealth health;
  health.temperature_celsius = 84;
  health.slowdown = slowdown;
  return health;
}
const kernels::CardHealth cool = hot({});

class HealthLogTest : public testing::Test {
 protected:
  // Of a card that computes and of which the looks see these, one after the other.
  std::string log_of(const std::vector<kernels::CardHealth>& seen, bool json = false) {
    std::ostringstream text;
    Log log(std::make_shared<spdlog::sinks::ostream_sink_mt>(text), json);
    std::promise<void> done;
    size_t next = 0;
    const auto read = [&](const std::string& bus_id) {
      EXPECT_EQ(bus_id, "0000:01:00.0");
      if (next == seen.size()) done.set_value();
      return next < seen.size() ? seen[next++] : (++next, kernels::CardHealth{});
    };
    HealthLog health([&] { return kernels::CardSensors{"12", read}; }, at_once, log);
    health.begin(only_card);
    EXPECT_EQ(done.get_future().wait_for(in_vain), std::future_status::ready);
    health.end(only_card);
    return text.str();
  }
  // The lines of these events, by their looks: "2 card_slowed 7 card_recovered".
  std::string turns(const std::vector<kernels::CardHealth>& seen) {
    std::istringstream lines(log_of(seen, true));
    std::string turns;
    int looks = 0;
    for (std::string line; std::getline(lines, line);) {
      const std::string event = nlohmann::json::parse(line)["event"];
      if (event == "health") {
        ++looks;
      } else {
        turns += (turns.empty() ? "" : " ") + std::to_string(looks) + " " + event;
      }
    }
    return turns;
  }
};

// Without the time.
std::vector<std::string> messages(const std::string& log) {
  std::istringstream lines(log);
  std::vector<std::string> found;
  for (std::string line; std::getline(lines, line);) found.push_back(line.substr(line.find("] ") + 2));
  return found;
}

TEST_F(HealthLogTest, ALineForEachLookOfWhatIsKnown) {
  kernels::CardHealth all = cool;
  all.temperature_celsius = 61;
  all.fan_percent = 45;
  all.power_watts = 118.4;
  all.power_limit_watts = 120;
  all.clock_mhz = 1708;
  all.memory_clock_mhz = 4006;
  all.slowdown->power_limit = true;
  kernels::CardHealth without_fan = all;
  without_fan.fan_percent.reset();
  without_fan.power_limit_watts.reset();
  without_fan.slowdown.reset();
  EXPECT_EQ(messages(log_of({all, without_fan})),
            (std::vector<std::string>{
                "0000:01:00.0 GTX 1060: 61 C, fan 45 %, 118 of 120 W, 1708 MHz, memory 4006 MHz, slowed by power limit",
                "0000:01:00.0 GTX 1060: 61 C, 118 W, 1708 MHz, memory 4006 MHz"}));
  nlohmann::json line = nlohmann::json::parse(log_of({all}, true));
  line.erase("time");
  line.erase("message");
  EXPECT_EQ(line, nlohmann::json::parse(R"({"level": "info", "event": "health", "card": "0000:01:00.0 GTX 1060",
      "temperature_celsius": 61, "fan_percent": 45, "power_watts": 118.4, "power_limit_watts": 120.0,
      "clock_mhz": 1708, "memory_clock_mhz": 4006, "slowed_by": ["power limit"]})"));
}

TEST_F(HealthLogTest, ASlowdownIsNamedOnceAndItsEndToo) {
  EXPECT_EQ(messages(log_of({hot(), hot(), hot(), cool, cool, cool, cool, cool, cool})),
            (std::vector<std::string>{
                "0000:01:00.0 GTX 1060: 84 C, slowed by heat", "0000:01:00.0 GTX 1060: 84 C, slowed by heat",
                "0000:01:00.0 GTX 1060 is slowed down by heat: 84 C", "0000:01:00.0 GTX 1060: 84 C, slowed by heat",
                "0000:01:00.0 GTX 1060: 84 C", "0000:01:00.0 GTX 1060: 84 C", "0000:01:00.0 GTX 1060: 84 C",
                "0000:01:00.0 GTX 1060: 84 C", "0000:01:00.0 GTX 1060: 84 C",
                "0000:01:00.0 GTX 1060 is not slowed down any more: 84 C", "0000:01:00.0 GTX 1060: 84 C"}));
  EXPECT_EQ(turns({hot({.power_brake = true}), hot({.hardware = true})}), "2 card_slowed");
}

TEST_F(HealthLogTest, WhatComesAndGoesIsNoNews) {
  EXPECT_EQ(turns({hot(), cool, hot(), cool, hot(), cool}), "") << "as where clocks change";
  std::vector<kernels::CardHealth> near_its_limit{hot(), hot()};
  for (int i = 0; i < 5; ++i) near_its_limit.insert(near_its_limit.end(), {cool, cool, cool, cool, hot()});
  EXPECT_EQ(turns(near_its_limit), "2 card_slowed");
}

TEST_F(HealthLogTest, APowerLimitThatSomebodyHasSetIsNoWarning) {
  const kernels::CardHealth limited = hot({.power_limit = true});
  EXPECT_EQ(turns({limited, limited, limited}), "");
}

TEST_F(HealthLogTest, WhatFailsIsNamedOnce) {
  kernels::CardHealth failed = cool;
  failed.problem = "0000:01:00.0: nvmlDeviceGetFanSpeed: Unknown Error (999)";
  EXPECT_EQ(turns({failed, failed, cool, failed}), "0 health_failed");
  kernels::CardHealth lost;
  lost.problem = "0000:01:00.0: nvmlDeviceGetHandleByPciBusId_v2: GPU is lost (15)";
  EXPECT_EQ(messages(log_of({lost, lost})),
            std::vector<std::string>{"0000:01:00.0: nvmlDeviceGetHandleByPciBusId_v2: GPU is lost (15); what this card "
                                     "does not tell is not shown"});
}

// The second is left out while the first is looked at.
// Whose computing begins or ends before the first look, or during one.
TEST_F(HealthLogTest, OnlyCardsThatCompute) {
  std::ostringstream text;
  Log log(std::make_shared<spdlog::sinks::ostream_sink_mt>(text), false);
  std::promise<void> begun, done;
  std::vector<std::string> asked;
  HealthLog* health_log = nullptr;
  const auto read = [&](const std::string& bus_id) {
    health_log->end("0000:02:00.0 B");
    asked.push_back(bus_id);
    if (asked.size() == 3) done.set_value();
    return kernels::CardHealth{};
  };
  const auto open = [&] {
    begun.get_future().wait();
    return kernels::CardSensors{"12", read};
  };
  {
    HealthLog health(open, at_once, log);
    health_log = &health;
    for (const char* name : {"0000:03:00.0 C", "0000:02:00.0 B", "0000:01:00.0 A"}) health.begin(name);
    health.end("0000:03:00.0 C");
    begun.set_value();
    ASSERT_EQ(done.get_future().wait_for(in_vain), std::future_status::ready);
  }
  EXPECT_EQ(std::vector(asked.begin(), asked.begin() + 3), std::vector<std::string>(3, "0000:01:00.0"));
}

TEST_F(HealthLogTest, WithoutNvmlOneLineSaysWhatThatCosts) {
  std::ostringstream text;
  Log log(std::make_shared<spdlog::sinks::ostream_sink_mt>(text), false);
  std::promise<void> asked;
  {
    HealthLog health(
        [&]() -> kernels::CardSensors {
          asked.set_value();  // not twice
          throw kernels::CudaError("no NVML (it is not there)");
        },
        at_once, log);
    health.begin(only_card);
    asked.get_future().wait();
    health.begin("0000:02:00.0 B");
  }
  EXPECT_EQ(
      messages(text.str()),
      std::vector<std::string>{"no NVML (it is not there); temperature, fan, power, clocks and slowdowns of cards "
                               "are not shown"});
}

TEST_F(HealthLogTest, ASystemWithoutThreadsIsAskedAgain) {
  std::ostringstream text;
  Log log(std::make_shared<spdlog::sinks::ostream_sink_mt>(text), false);
  std::promise<void> opened;
  HealthLog health([&] { return opened.set_value(), kernels::CardSensors{}; }, 3600, log);
  {
    const fakes::RefusedThreads refused;
    EXPECT_THROW(health.begin(only_card), std::system_error);
  }
  health.begin(only_card);
  EXPECT_EQ(opened.get_future().wait_for(in_vain), std::future_status::ready);
}

}  // namespace
}  // namespace agent
