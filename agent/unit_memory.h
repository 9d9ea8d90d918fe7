// What a unit takes of the host's memory, weights included.
#pragma once

#include <cstdint>

#include "kernels/training.h"
#include "protocol/messages.h"

namespace agent {

// That are computed side by side: an evaluation is computed like one lane.
uint64_t lanes_of(const protocol::Unit& unit);

// The most sums that LaneTree holds of lanes that so many workers add.
uint64_t tree_sums(uint64_t lanes, uint64_t added, uint64_t workers);

// On the CPU, besides its trainer; and on so many cards.
uint64_t host_bytes_on_cpu(const protocol::Unit& unit, const kernels::ModelConfig& config);
uint64_t host_bytes_on_cards(const protocol::Unit& unit, const kernels::ModelConfig& config, uint64_t cards);

}  // namespace agent
