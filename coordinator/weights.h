// Which files give a rig the weights of a round.
#pragma once

#include <optional>
#include <span>

#include "core.h"

namespace pool {

constexpr uint64_t max_updates = 2000;  // of one lease, so that it stays below the bound on control messages

// The source of fewest bytes: updates alone from the newest round that the rig holds, or the newest published
// checkpoint and the updates since. `held` may name other jobs too. Nothing where no kept files lead to these weights.
std::optional<protocol::WeightsSource> weights_source(Db& db, const std::string& job, uint64_t round,
                                                      std::span<const protocol::HeldWeights> held);

bool holds(std::span<const protocol::HeldWeights> held, const std::string& job, uint64_t round);

}  // namespace pool
