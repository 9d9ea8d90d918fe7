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
  std::string commitments;  // what it must give; computed with the reference operations
};

// Odd shapes. For the CPU: gradients over several blocks, local steps of several lanes, local steps in int8, and a
// result whose codec is int8, not int4. For a card: a gradient, and local steps in int8.
std::vector<GoldenUnit> golden_units();
std::vector<GoldenUnit> golden_units_of_cards();

// Commitments of one unit as text: "digest of the result, segments root".
std::string commitments_of(const UnitResult& result);

// Throws Failure(self_test) where the CPU, or `card`, gives another bit; kernels::Cancelled; kernels::CudaError where
// the card fails.
void self_test(UnitRunner& cpu, const kernels::Cancel& cancel = {});
void self_test_card(UnitRunner& card, const kernels::Cancel& cancel = {});

}  // namespace agent
