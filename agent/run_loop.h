// The agent's loop: fetch, materialise, compute, combine the lanes, encode, upload, sign and submit, keep the receipt.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <semaphore>
#include <vector>

#include "pool_errors.h"
#include "pool_session.h"
#include "rates.h"
#include "rig.h"
#include "unit_limits.h"
#include "unit_runner.h"
#include "unit_task.h"

namespace agent {

class RunLoop {
 public:
  // config: completed and checked; units: stop after so many accepted ones, 0: never. All must outlive the loop.
  RunLoop(const Config& config, const RigKeys& keys, uint64_t units, Surroundings& world);

  // Until a stop is requested. Throws Failure when no pool is left to work for, or the self-test fails.
  void run();

 private:
  // Where a unit is computed: cards may work on several, the CPU works on one.
  struct Place {
    Place(const UnitRunner::MakeOps& make_cpu_ops, const std::shared_ptr<CardSets>& sets)
        : runner(make_cpu_ops, sets) {}
    UnitRunner runner;
    size_t cards = 0;  // that it was lent; 0: the CPU
    PoolSession* pool = nullptr;
    std::unique_ptr<UnitTask> task;  // null: nothing is in work here
    double measured_seconds = 0;     // that the unit takes at the speed measured at the start
    uint64_t held_bytes = 0;         // planned memory of the unit in work, or whose buffers are held
    uint64_t result_bytes = 0;
  };

  // The pools, run_loop_pools.cpp.
  PoolSession* next_pool();
  void visit_others(const PoolSession& pool);
  void pool_failed(PoolSession& pool, const std::exception_ptr& error, bool ever_connected);
  void require_some_pool() const;

  void prepare_rig();
  void finish_ended();
  void with_pool(PoolSession& pool, const std::function<void()>& action);

  // One turn with a pool.
  void turn(PoolSession& pool);
  protocol::LeaseAnswer fetch(PoolSession& pool);
  void send(PoolSession& pool, const OutboxItem& item, bool waited);
  void send_outbox(PoolSession& pool);
  void no_work(const protocol::NoLease& answer);
  bool has_room(PoolSession& pool);
  std::string lack_of_room(PoolSession& pool) const;  // empty: there is room
  void idle(double seconds);
  void fetch_settlements(PoolSession& pool);
  void report_accepted(const protocol::Submission& submission, const protocol::Receipt& receipt, double round_trip);
  void report_clock(PoolSession& pool);

  // Units in work, run_loop_units.cpp.
  size_t free_place();
  Place& ended_place();
  size_t in_work() const;
  bool wants_units() const;
  bool can_work() const;
  uint64_t memory_on_offer();
  void free_buffers();
  uint64_t planned_beside(const Place* own) const;
  uint64_t memory_limit(const Place* own) const;
  uint64_t memory_unused() const;
  uint64_t memory_free(const Place* own) const;
  uint64_t memory_for_units(const Place& own) const;
  void require_room(uint64_t bytes) const;
  void work(PoolSession& pool, const protocol::Lease& lease);
  void begin(Place& place);
  bool begin_anew(Place& place);
  UnitInputs check_demand(Place& place);
  void report_unit(const protocol::Unit& unit, const UnitDemand& demand, size_t cards);
  void materialise(Place& place, UnitInputs& inputs);
  void start(Place& place, UnitInputs inputs);
  void finish(Place& place);
  OutboxItem keep(Place& place);
  void leave(Place& place, const std::exception_ptr& error, bool kept);
  std::string reason_to_give_back(const std::exception_ptr& error, bool kept);
  void give_back(PoolSession& pool, const protocol::Lease& lease, const std::string& reason);

  const Config& config_;
  const RigKeys& keys_;
  const uint64_t units_wanted_;
  Surroundings& world_;
  const std::string instance_;
  std::vector<std::unique_ptr<PoolSession>> pools_;
  std::optional<Failure> last_refusal_;

  std::optional<std::string> open_request_;  // a lease request whose answer did not come
  Rig rig_;
  double speed_factor_ = 1;                  // of what was measured at the start, as the last unit showed
  std::optional<uint64_t> lanes_of_a_unit_;  // of the newest one that trains
  std::counting_semaphore<> ended_{0};       // units that have ended and are not finished
  uint64_t memory_before_ = 0;               // that was free when nothing was in work

  double ask_at_ = 0, last_work_;  // monotonic
  double closing_pause_ = 0;       // seconds since the last answer, where rounds are being closed
  double last_no_work_log_ = -1e9;
  std::mutex rates_mutex_;
  Rates rates_;
  uint64_t accepted_ = 0, rejected_ = 0, superseded_ = 0, earned_ = 0;

  std::vector<std::unique_ptr<Place>> places_;  // goes first: threads of units in work use what is above
};

}  // namespace agent
