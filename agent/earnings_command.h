// `gradminer earnings`: what this rig's own receipts and settlements say, every signature verified.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "pool_identity.h"

namespace agent {

struct Earnings {
  uint64_t units = 0, tokens = 0;
  uint64_t accepted = 0;             // micro-credits of all accepted units
  uint64_t settled = 0, voided = 0;  // of them paid, and taken back; the rest is in escrow
};
struct EarningsBook {
  struct Line {
    std::string pool, day, job;
    auto operator<=>(const Line&) const = default;
  };
  std::map<Line, Earnings> lines;
  std::vector<std::string> problems;  // documents that do not verify; they are not counted
};

EarningsBook read_earnings(const std::filesystem::path& data);

// Prints a table or JSON. Throws Failure(input) when a document does not verify, after printing.
void earnings_command(const std::filesystem::path& data, bool json);

}  // namespace agent
