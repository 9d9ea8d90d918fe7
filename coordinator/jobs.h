// What an owner does with a job.
#pragma once

#include <filesystem>
#include <optional>

#include "core.h"

namespace pool {

constexpr uint64_t max_budget = 1'000'000'000'000'000;  // micro-credits given at once

// All throw Failure: not_found, refused with the state that forbids it, or bad_input for a number out of range.
// Leases nothing more. With `after`: goes on until that many rounds (and the one that is open) are done, checked, and
// the loss of their weights is known, and pauses then.
void pause_job(Core& core, const std::string& job, std::optional<uint64_t> after = {});
// Also adds to the budget; an unfunded job goes on once it is enough.
void resume_job(Core& core, const std::string& job, uint64_t add_budget);
// Ends it: what was accepted is paid, the rest of the budget goes back.
void cancel_job(Core& core, const std::string& job);

struct Exported {
  uint64_t round = 0;
  protocol::Digest weights{};
};
// config.json, model.safetensors of the newest weights, and the tokenizer files that the job started with.
Exported export_job(Core& core, const std::string& job, const std::filesystem::path& out);

}  // namespace pool
