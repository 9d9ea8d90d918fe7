// The agent's loop: fetch, materialise, compute, combine the lanes, encode, upload, sign and submit, keep the receipt.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "pool_errors.h"
#include "pool_session.h"
#include "rates.h"
#include "unit_runner.h"

namespace agent {

class RunLoop {
 public:
  // config: completed and checked; units: stop after so many accepted ones, 0: never. All must outlive the loop.
  RunLoop(const Config& config, const RigKeys& keys, uint64_t units, Surroundings& world);

  // Until a stop is requested. Throws Failure when no pool is left to work for, or the self-test fails.
  void run();

 private:
  // The pools, run_loop_pools.cpp.
  PoolSession* next_pool();
  void pool_failed(PoolSession& pool, const std::exception_ptr& error);
  void require_some_pool() const;

  // What computes, run_loop_engines.cpp.
  void prepare_engines();
  void prepare_cards();
  void warn_if_slow(const RigCard& card, double flops);
  void prepare_cpu();
  double speed();
  uint64_t memory_on_offer() const;
  void card_left_out(const std::string& card, const std::string& why);

  // One turn with a pool.
  void turn(PoolSession& pool);
  protocol::LeaseAnswer fetch(PoolSession& pool);
  void work(PoolSession& pool, const protocol::Lease& lease);
  OutboxItem compute(PoolSession& pool, const protocol::Lease& lease, const kernels::Cancel& cancel);
  void send(PoolSession& pool, const OutboxItem& item, bool waited);
  void send_outbox(PoolSession& pool);
  void give_back(PoolSession& pool, const protocol::Lease& lease, const std::string& reason);
  void no_work(const protocol::NoLease& answer);

  struct Understood {
    kernels::ModelConfig config;
    UnitPlan plan;
  };
  uint64_t memory_for_units(uint64_t available) const;
  Understood check_demand(PoolSession& pool, const protocol::Lease& lease);
  bool has_room(PoolSession& pool);
  std::string lack_of_room(PoolSession& pool) const;  // empty: there is room
  void require_room(uint64_t bytes) const;
  void idle(double seconds);
  void fetch_settlements(PoolSession& pool);
  void report_accepted(const protocol::Submission& submission, const protocol::Receipt& receipt, double round_trip);
  void report_clock(PoolSession& pool);

  const Config& config_;
  const RigKeys& keys_;
  const uint64_t units_wanted_;
  Surroundings& world_;
  const std::string instance_;
  UnitRunner runner_;
  std::vector<std::unique_ptr<PoolSession>> pools_;
  std::optional<Failure> last_refusal_;

  std::optional<std::string> open_request_;  // a lease request whose answer did not come
  bool engines_ready_ = false;
  std::vector<RigCard> untried_cards_;
  double flops_ = 0;
  uint64_t held_bytes_ = 0;  // planned memory of the unit whose buffers are held
  double last_work_ = 0;     // monotonic
  double last_no_work_log_ = -1e9, last_settlements_ = -1e9;
  Rates rates_;
  std::atomic<double> progress_ = 0;
  uint64_t accepted_ = 0, rejected_ = 0, superseded_ = 0, earned_ = 0;
};

}  // namespace agent
