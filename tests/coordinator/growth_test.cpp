// What requests and the end of a round cost hardly grows with the rounds that a job has behind it.
#include <sqlite3.h>

#include "fake_rig.h"

namespace pool::testing {
namespace {

// Counts the steps that SQLite makes on every connection that is opened while this lives.
class StepCounter {
 public:
  StepCounter() {
    steps = 0;
    sqlite3_auto_extension(reinterpret_cast<void (*)()>(&watch));
  }
  ~StepCounter() { sqlite3_cancel_auto_extension(reinterpret_cast<void (*)()>(&watch)); }
  StepCounter(const StepCounter&) = delete;
  StepCounter& operator=(const StepCounter&) = delete;

  uint64_t count() const { return steps; }

 private:
  static int watch(sqlite3* db, const char**, const sqlite3_api_routines*) {
    sqlite3_progress_handler(
        db, 1,
        [](void*) {
          ++steps;
          return 0;
        },
        nullptr);
    return SQLITE_OK;
  }
  inline static uint64_t steps = 0;
};

struct Counted {
  StepCounter counter;  // before the pool opens its store
};

class Growth : private Counted, public PoolFixture {
 protected:
  // Steps until so many rounds are done.
  uint64_t steps_until(uint64_t rounds, std::vector<Rig>& rigs) {
    const uint64_t before = counter.count();
    while (number("SELECT rounds_done FROM jobs") < static_cast<int64_t>(rounds)) {
      for (Rig& rig : rigs) {
        const protocol::LeaseAnswer answer = rig.ask();
        if (answer.lease) rig.work(*answer.lease);
        if (rig.held.size() > 2) rig.held.erase(rig.held.begin(), rig.held.end() - 2);  // as an agent's cache
        advance();
      }
    }
    return counter.count() - before;
  }
};

TEST_F(Growth, LaterRoundsCostWhatEarlierOnesDo) {
  JobRequest request = tiny_job();
  request.description.rounds = 200;
  request.description.evaluate_every = 500;
  request.description.check_share_ppm = 200'000;
  create(request);
  std::vector<Rig> rigs;
  for (const char* account : {"alice", "bob"}) rigs.push_back(rig(account));
  steps_until(20, rigs);
  const uint64_t early = steps_until(40, rigs);
  steps_until(140, rigs);
  const uint64_t late = steps_until(160, rigs);
  EXPECT_LT(static_cast<double>(late), 2.0 * static_cast<double>(early));
}

}  // namespace
}  // namespace pool::testing
