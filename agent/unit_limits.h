// What a unit may ask of this rig. Checked before anything is downloaded.
#pragma once

#include "config.h"
#include "kernels/model_config.h"
#include "protocol/messages.h"
#include "unit_refused.h"

namespace agent {

// The unit's model. Throws UnitRefused for profiles, codecs, models and counts that this agent does not know.
kernels::ModelConfig check_understood(const protocol::Unit& unit);

struct UnitDemand {
  uint64_t planned_bytes = 0;  // memory
  uint64_t held_bytes = 0;     // of them already held by this process
  uint64_t download_bytes = 0;
  uint64_t result_bytes = 0;
  double estimated_seconds = 0;
};
// Of the encoded result, header included.
uint64_t result_bytes(const protocol::Unit& unit, const kernels::ModelConfig& config);
double estimated_seconds(const protocol::Unit& unit, const kernels::ModelConfig& config, double flops_per_second);

// Throws UnitRefused naming the first limit that the unit is beyond. memory_available: bytes; deadline_s: the lease's.
void check_limits(const protocol::Unit& unit, const UnitDemand& demand, const Limits& limits, uint64_t memory_available,
                  uint64_t deadline_s);

}  // namespace agent
