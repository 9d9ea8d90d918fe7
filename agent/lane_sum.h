// Adds lanes that lie on cards, piece by piece: each card's link carries its lane once, all at the same time, and the
// host holds no more than two pieces of each. A lane that is the whole sum is encoded on its card.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/training.h"
#include "lane_worker.h"
#include "unit_blob.h"

namespace agent {

// A lane's result that its worker still holds.
struct HeldLane {
  uint64_t lane = 0;
  LaneWorker* worker = nullptr;
  std::string failure;  // what the card said; empty: it was read
  bool out_of_memory = false;
};

// Puts into `sum` the lanes in `tree` and the held ones, in the canonical tree, which lacks only these. False where a
// card failed; `failure` then tells of which, and `sum` has to be restarted. `tree` is as it was. Throws
// kernels::Cancelled.
bool sum_held_lanes(const kernels::LaneTree& tree, std::span<HeldLane> lanes, UnitBlob& sum,
                    const kernels::Cancel& cancel);

}  // namespace agent
