// The choice of a unit for a rig that asks.
#pragma once

#include <optional>

#include "core.h"
#include "units.h"

namespace pool {

struct Choice {
  UnitRow unit;
  bool replay = false;  // repeats an accepted unit for a check
  double estimate = 0;  // seconds that it should take this rig
};
struct ChoiceOrReason {
  std::optional<Choice> choice;
  protocol::NoLease none;  // where there is no choice
};

// What the rig holds it works on. Of a job, in this order: checks of weights that the rig holds or that have waited
// long, overdue evaluations, train units, evaluations, other checks, copies of units that take longer than they should.
ChoiceOrReason choose_unit(Core& core, Db& db, const RigIdentity& rig, const protocol::LeaseRequest& request);

}  // namespace pool
