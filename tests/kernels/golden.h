// Golden digests: golden.txt lists units and the SHA-256 of their encoded results. Weights, tokens and the optimiser's
// numbers come from model_test_util.h by the unit's seed; lanes take consecutive batches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace kernels::test {

// A row of golden.txt.
struct GoldenUnit {
  std::string name, family, profile;
  size_t layers = 0, heads = 0, kv = 0, channels = 0, positions = 0, vocabulary = 0, inner = 0, batch = 0, context = 0;
  size_t steps = 0, lanes = 0;
  std::string codec;
  uint64_t seed = 0;
  std::string sha256;
};

// False for a row that holds no unit: a comment, the columns' names. Throws std::runtime_error for a malformed row.
bool parse_golden(const std::string& row, GoldenUnit& unit);

// The units of a file like golden.txt. Throws std::runtime_error for one that cannot be read, and as parse_golden().
std::vector<GoldenUnit> read_golden(const std::string& file);

// The hexadecimal SHA-256 of a unit, computed now. Throws std::exception for a family, profile or codec it does not
// know.
std::string golden_digest(const GoldenUnit& unit, Ops& ops);

}  // namespace kernels::test
