// The rig's own proof of what it did: receipts and settlements as the pool signed them. Nothing is ever changed or
// removed.
//
//   FOLDER/YYYY-MM-DD/UNIT.ATTEMPT.receipt.json and .sig     FOLDER/settlements/SEQUENCE.json and .sig
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "protocol/documents.h"

namespace agent {

// One thread at a time.
class ReceiptBook {
 public:
  explicit ReceiptBook(std::filesystem::path folder) : folder_(std::move(folder)) {}

  // Synced to the disk on return. Throws Failure(disk).
  void add(const protocol::Receipt& receipt, const protocol::SignedDocument& document);
  void add(const protocol::Settlement& settlement, const protocol::SignedDocument& document);
  uint64_t last_settlement() const;  // its sequence; 0: none

  // Everything, oldest first.
  std::vector<protocol::SignedDocument> receipts() const;
  std::vector<protocol::SignedDocument> settlements() const;

 private:
  const std::filesystem::path folder_;
  mutable std::optional<uint64_t> last_settlement_;
};

// "2025-03-31", UTC.
std::string day_of(int64_t unix_time);

}  // namespace agent
