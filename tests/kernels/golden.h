// Golden digests: golden.json lists units of exact-fp32/1 and the SHA-256 of their encoded results. Weights, tokens and
// the optimiser's numbers come from model_test_util.h by the unit's seed; lanes take consecutive batches.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "kernels/ops.h"

namespace kernels::test {

// The hexadecimal SHA-256 of a unit of golden.json, computed now. Throws std::exception for a malformed unit.
std::string golden_digest(const nlohmann::ordered_json& unit, Ops& ops);

}  // namespace kernels::test
