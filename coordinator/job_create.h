// Making a job: checks everything that a rig or the pool would otherwise stumble over later, and says what it will
// cost.
#pragma once

#include <filesystem>
#include <optional>

#include "core.h"

namespace pool {

struct JobRequest {
  // As the owner asks. Filled in here: pool_id, model, parameters, shards, unit prices, initial_weights.
  protocol::JobDescription description;
  std::string dataset;
  std::optional<std::filesystem::path> config;  // config.json: seeded initial weights
  std::optional<std::filesystem::path> model;   // or a Hugging Face folder with weights
  std::optional<uint64_t> budget;               // else the estimated cost with checks
};

struct JobEstimate {
  uint64_t work = 0, checks = 0, budget = 0;  // micro-credits
  double flops = 0;                           // of the whole training
  double seconds = 0;                         // at assumed_flops a rig, each round's units side by side
  uint64_t bytes_up = 0, bytes_down = 0;      // a round: all results; one rig's update
  uint64_t first_bytes_down = 0;              // a rig's start: weights, and the shard of each lane
};
constexpr double assumed_flops = 50e9;

struct CreatedJob {
  protocol::JobDescription description;
  JobEstimate estimate;
};

// Stores nothing where dry_run. Throws Failure naming the option that is wrong and what would be right.
CreatedJob create_job(Core& core, const JobRequest& request, bool dry_run);

}  // namespace pool
