// Units on cards where the system refuses a thread.
#include "thread_faults.h"

#include <chrono>
#include <thread>

#include "cards_fixture.h"
#include "engine.h"
#include "files.h"

namespace agent {
namespace {

// The first thread leaves the lanes to the card that has none, which is measured faster, and must not wait for it.
TEST_F(CardsTest, AUnitWhoseCardGetsNoThreadEnds) {
  const protocol::Unit unit = unit_of(2);
  for (const int refused : {1, 2}) {
    const auto wait = [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
    const UnitRunner::Cards cards{cpu_as_card("slow", wait), cpu_as_card("fast")};
    for (const auto& card : cards) card->measure();
    runner.use_cards(cards, on_failed);
    {
      const fakes::ThreadFaults faults(refused);
      try {
        run(runner, unit);
        FAIL() << "thread " << refused << " was refused";
      } catch (const std::system_error& error) {
        EXPECT_EQ(error.code(), std::errc::resource_unavailable_try_again);
      }
      EXPECT_TRUE(faults.happened());
    }
    EXPECT_TRUE(failures.empty()) << "no fault of a card";
    EXPECT_EQ(runner.cards().size(), 2u);
    expect_the_cpus(run(runner, unit), unit);
  }
}

// It may have more later: no mistake of the user's.
TEST(Engine, TooFewThreadsAreTheSystemsFault) {
  const fakes::ThreadFaults faults(3);
  try {
    make_engine(8);
    FAIL();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), std::errc::resource_unavailable_try_again);
    EXPECT_STREQ(
        system_failure(error).what(),
        "the system gives gradminer no thread (only 3 of 8 threads: Resource temporarily unavailable); its limit "
        "may be ulimit -u, TasksMax or the memory");
  }
}

}  // namespace
}  // namespace agent
