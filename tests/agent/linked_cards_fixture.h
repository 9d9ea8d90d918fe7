// Units over cards that pass lanes to each other, over links that are copies in the host's memory.
#pragma once

#include "cards_fixture.h"
#include "copying_links.h"

namespace agent {

class LinkedCardsTest : public CardsTest {
 protected:
  explicit LinkedCardsTest(size_t inner = 64) : CardsTest(inner) {}

  static UnitRunner::Cards cards(size_t count) {
    UnitRunner::Cards made;
    for (size_t i = 0; i < count; ++i) made.push_back(cpu_as_card("card " + std::to_string(i)));
    return made;
  }
  void use(UnitRunner::Cards given) { use(std::move(given), linked); }
  void use(UnitRunner::Cards given, UnitRunner& by) {
    by.use_cards(
        std::move(given), on_failed, [this](const std::string& what) { troubles.push_back(what); }, on_short);
  }
  // What must be free for the fastest plan of the unit.
  size_t bytes_for(const protocol::Unit& unit) const {
    CpuAsCard probe({});
    return kernels::Trainer::planned_bytes(job.config, unit.batch, unit.context, probe, settings_of(unit)) -
           probe.own_bytes() + (64 << 20);
  }
  size_t parameters() const { return kernels::parameter_count(job.config); }

  Seen seen;
  std::vector<std::string> troubles;
  const std::shared_ptr<CardSets> sets = std::make_shared<CardSets>(copying_links(seen));
  UnitRunner linked{[] { return kernels::make_cpu_ops(1); }, sets};
};

}  // namespace agent
