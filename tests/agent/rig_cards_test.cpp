// Which cards of the machine the agent takes, and what its log says of the others.
#include <spdlog/sinks/ostream_sink.h>

#include <sstream>

#include "cards.h"
#include "driver_cards_fixture.h"

namespace agent {
namespace {

class RigCards : public DriverCardsTest {
 protected:
  // The bus ids of those that are taken of two, and the log.
  std::vector<std::string> taken(const std::vector<uint64_t>& numbers) {
    setenv("FAKE_CUDA_CARDS", "0000:0A:00.0,8.6,6000000000,One;0000:0B:00.0,8.6,6000000000,Two", 1);
    log_text.str("");
    Log log(std::make_shared<spdlog::sinks::ostream_sink_mt>(log_text), false);
    Config config;
    config.cuda_devices = numbers;
    std::vector<std::string> names;
    for (const RigCard& card : rig_cards(config, log)) names.push_back(card.name);
    return names;
  }
  bool logged(const std::string& text) const { return log_text.str().find(text) != std::string::npos; }

  std::ostringstream log_text;
};

TEST_F(RigCards, NumbersThatThereAreNotAreNamed) {
  EXPECT_EQ(taken({1, 5}), std::vector<std::string>{"0000:0B:00.0 Two"});
  EXPECT_TRUE(logged("cuda:5 is wanted, but this machine has 2 cards")) << log_text.str();
  EXPECT_FALSE(logged("computing on the CPU")) << log_text.str();
}

TEST_F(RigCards, WithNoneOfThemTheCpuComputes) {
  EXPECT_TRUE(taken({5}).empty());
  EXPECT_TRUE(logged("cuda:5 is wanted, but this machine has 2 cards")) << log_text.str();
  EXPECT_TRUE(logged("computing on the CPU: none of this machine's cards is used")) << log_text.str();
}

}  // namespace
}  // namespace agent
