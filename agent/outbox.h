// Finished units that the pool has not acknowledged, as synced files: they survive a crash, a power cut, and the pool's
// absence. One outbox per pool.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "protocol/messages.h"

namespace agent {

struct OutboxItem {
  std::filesystem::path folder;
  protocol::Submission submission;
  std::filesystem::path blob() const { return folder / "result.blob"; }  // none where diverged
};

// One thread at a time.
class Outbox {
 public:
  explicit Outbox(std::filesystem::path folder) : folder_(std::move(folder)) {}

  // On return the item is on the disk for good. Throws Failure(disk); then nothing of it stays.
  OutboxItem put(const protocol::Submission& submission, std::span<const uint8_t> blob);
  // Names of whole items, oldest first. Clears away what a crash left half made or half removed.
  std::vector<std::string> names() const;
  // Throws std::runtime_error when the item is damaged.
  OutboxItem load(const std::string& name) const;
  void remove(const std::string& name);
  uint64_t bytes() const;

  static std::string name_of(const protocol::Submission& submission);  // UNIT.ATTEMPT

 private:
  const std::filesystem::path folder_;
};

}  // namespace agent
