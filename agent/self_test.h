// Before its first unit an agent computes small built-in units whose results are known: hardware that flips bits mines
// nothing.
#pragma once

#include <string>
#include <vector>

#include "unit_runner.h"

namespace agent {

struct GoldenUnit {
  protocol::Unit unit;
  kernels::ModelConfig config;
  std::vector<float> weights;
  ReadTokens read_tokens;
};

// Odd shapes, int4: gradients over several blocks, local steps of several lanes, local steps in int8.
std::vector<GoldenUnit> golden_units();

// Commitments of one unit as text: "digest of the result, segments root".
std::string commitments_of(const UnitResult& result);
// What golden_units() must give, in their order; computed with the reference operations.
const std::vector<std::string>& golden_commitments();

// Throws Failure(self_test) where this machine gives another bit; kernels::Cancelled.
void self_test(UnitRunner& runner, const kernels::Cancel& cancel = {});

}  // namespace agent
