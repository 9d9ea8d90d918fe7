// A leased unit in work: a thread computes it, another keeps its lease alive until it is delivered.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "clock.h"
#include "heartbeat.h"
#include "lane_data.h"
#include "unit_runner.h"

namespace agent {

// What a unit is computed from.
struct UnitInputs {
  kernels::ModelConfig config;
  UnitPlan plan;
  std::shared_ptr<const std::vector<float>> weights = {};
  std::unique_ptr<const ShardFiles> shards = {};
};

class UnitTask {
 public:
  // Keeps the lease alive from here on. `heartbeat_client` is used by no one else meanwhile, and outlives the task.
  UnitTask(protocol::Lease lease, PoolClient& heartbeat_client, const Clock& clock, const Stop& stop);
  ~UnitTask();

  const protocol::Lease& lease() const { return lease_; }
  const protocol::Unit& unit() const { return lease_.unit; }
  // When to give up: a stop was requested, or the unit is not wanted any more.
  bool cancelled() const { return abandoned_ || stop_.requested() || !heartbeat_.wanted(); }
  // Nobody wants the result any more.
  void abandon() { abandoned_ = true; }
  Heartbeat& heartbeat() { return heartbeat_; }

  // Begins to compute, for at most `seconds`. on_tokens: how many more are done, by one thread at a time; on_end, the
  // last thing that the computing thread does. The runner outlives the task and is used by no one else meanwhile.
  void start(UnitRunner& runner, UnitInputs inputs, double seconds, std::function<void(uint64_t tokens)> on_tokens,
             std::function<void()> on_end);
  // Once it has ended: the result, or what UnitRunner::run() threw; UnitRefused where it took too long.
  bool ended() const { return ended_; }
  UnitResult result();
  // Whether that is NoCardLeft. It may then begin anew: start() after reset().
  bool lost_its_cards() const;
  void reset();

 private:
  void compute(UnitRunner& runner, double seconds, const std::function<void(uint64_t)>& on_tokens);

  const protocol::Lease lease_;
  const Clock& clock_;
  const Stop& stop_;
  std::atomic<double> progress_ = 0;
  std::atomic<bool> abandoned_ = false, ended_ = false;
  std::optional<UnitInputs> inputs_;
  UnitResult result_;
  std::exception_ptr error_;
  Heartbeat heartbeat_;
  std::thread thread_;
};

}  // namespace agent
