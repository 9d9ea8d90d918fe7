// What the rig computes with: its cards, each of which shows first that it computes right; without any, the CPU.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "cards.h"
#include "health_log.h"
#include "pool_session.h"
#include "unit_runner.h"

namespace agent {

// One thread at a time.
class Rig {
 public:
  // world outlives the rig.
  explicit Rig(Surroundings& world)
      : world_(world),
        untried_(world.cards),
        sets_(std::make_shared<CardSets>(world.make_links)),
        health_(world.open_sensors, world.seconds_between_health, world.log) {}

  // Before a unit: self-tests and speeds, once; again of cards that lacked memory or a thread, and of `cpu`, which then
  // computes, where no card is left. Throws Failure where the CPU fails it, kernels::Cancelled after a stop.
  void prepare(UnitRunner& cpu);
  bool on_cards() const { return lent_ > 0 || !idle_.empty(); }
  size_t idle_cards() const { return idle_.size(); }

  // For those who compute on its cards.
  const std::shared_ptr<CardSets>& card_sets() const { return sets_; }
  // Lends a runner at most so many idle cards, those with most memory first; how many. On the CPU none.
  size_t lend(UnitRunner& runner, uint64_t most);
  // After its unit: takes them back, but for those that have failed.
  void take_back(UnitRunner& runner, size_t count);

  // As measured at the start: of what is lent to the runner,
  double flops(const UnitRunner& runner) const;
  // and of what is idle, as far as `lanes` occupy it.
  double idle_flops(uint64_t lanes) const;
  // Bytes that plans may take on the idle card with most memory.
  uint64_t idle_card_bytes() const { return idle_.front()->figures().bytes; }

  // Of idle cards.
  void free_buffers();

 private:
  void try_cards();
  void try_later(const RigCard& card, const std::string& lack);
  void try_cpu(UnitRunner& cpu);
  void warn_if_slow(const RigCard& card, double flops);
  void add_idle(const UnitRunner::Cards& cards);
  void left_out(const std::string& card, const std::string& why);
  void links_failed(const std::string& why);
  void short_of_memory(const std::string& card, const std::string& why);

  Surroundings& world_;
  bool ready_ = false;
  std::vector<RigCard> untried_;  // or to be tried again
  std::set<std::string> short_;   // whose names the log told
  double try_at_ = 0;             // monotonic
  UnitRunner::Cards idle_;        // most memory first
  const std::shared_ptr<CardSets> sets_;
  size_t lent_ = 0;
  double cpu_flops_ = 0;
  HealthLog health_;
};

}  // namespace agent
