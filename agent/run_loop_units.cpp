// Units in work: each is prepared by the loop, computed by a thread of its own (unit_task.h), and delivered by the loop
// again. A rig whose cards outnumber a unit's lanes works on several; the CPU on one.
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "run_loop.h"
#include "system_info.h"
#include "unit_limits.h"
#include "unit_memory.h"

namespace agent {
namespace {

constexpr double seconds_after_a_refused_unit = 30;

uint64_t minus(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

}  // namespace

size_t RunLoop::free_place() {
  const auto free = std::ranges::find(places_, nullptr, [](const auto& place) { return place->task.get(); });
  if (free != places_.end()) return static_cast<size_t>(free - places_.begin());
  places_.push_back(std::make_unique<Place>(world_.make_ops, rig_.card_sets()));
  return places_.size() - 1;
}

RunLoop::Place& RunLoop::ended_place() {
  for (const auto& place : places_) {
    if (place->task && place->task->ended()) return *place;
  }
  throw std::logic_error("no unit has ended");
}

size_t RunLoop::in_work() const {
  return static_cast<size_t>(std::ranges::count_if(places_, [](const auto& place) { return place->task != nullptr; }));
}

bool RunLoop::wants_units() const {
  return !world_.stop.requested() && (units_wanted_ == 0 || accepted_ + in_work() < units_wanted_);
}

// Whether something could compute one more, as large as those in work. A few cards alone would take long, and a round
// waits for its last unit.
bool RunLoop::can_work() const {
  if (in_work() == 0) return true;
  if (2 * rig_.idle_cards() < lanes_of_a_unit_.value_or(1)) return false;
  uint64_t largest = 0;
  for (const auto& place : places_) {
    if (place->task) largest = std::max(largest, place->held_bytes);
  }
  return rig_.idle_cards() > 0 && largest <= memory_free(nullptr);
}

// Of the host's memory, what units in work at other places than `own` plan to use.
uint64_t RunLoop::planned_beside(const Place* own) const {
  uint64_t bytes = 0;
  for (const auto& place : places_) {
    if (place.get() != own && place->task) bytes += place->held_bytes;
  }
  return bytes;
}

// What the units at other places leave of the limit.
uint64_t RunLoop::memory_limit(const Place* own) const {
  const uint64_t limit = config_.limits.memory_mb > 0 ? config_.limits.memory_mb * megabyte : UINT64_MAX;
  return minus(limit, planned_beside(own));
}

// Available on the host. On the CPU a place's buffers count, on cards weights that no unit holds: the next one's take
// their place.
uint64_t RunLoop::memory_unused() const {
  uint64_t bytes = memory_available();
  if (!rig_.on_cards()) return bytes;
  for (const auto& pool : pools_) {
    if (pool->ever_connected()) bytes += pool->files().weights.unused_bytes();
  }
  return bytes;
}

// What one more unit may take, besides the buffers held at `own`. Those in work may not have allocated all of theirs.
uint64_t RunLoop::memory_free(const Place* own) const {
  const uint64_t planned = planned_beside(own);
  uint64_t unused = memory_unused();
  if (planned > 0) unused = std::min(unused, minus(memory_before_, planned));
  return std::min(unused, memory_limit(own));
}

// What the plan of a unit at `own` may take.
uint64_t RunLoop::memory_for_units(const Place& own) const {
  return std::min(memory_free(&own) + own.held_bytes, memory_limit(&own));
}

// For the pool: a unit's weights and results lie on a card as well.
uint64_t RunLoop::memory_on_offer() {
  return rig_.on_cards() ? rig_.idle_card_bytes() : memory_for_units(*places_[free_place()]);
}

// Of what is not in work.
void RunLoop::free_buffers() {
  rig_.free_buffers();
  for (const auto& place : places_) {
    if (place->task) continue;
    place->runner.free_buffers();
    place->held_bytes = 0;
  }
}

// Throws UnitRefused where a result of so many bytes would leave less than the reserve on the disk.
void RunLoop::require_room(uint64_t bytes) const {
  if (disk_free(config_.data) >= bytes + config_.disk_reserve_mb * megabyte) return;
  throw UnitRefused("the disk of " + config_.data.string() + " has no room for its result of " +
                    human_bytes(static_cast<double>(bytes)));
}

// Until the unit is being computed, or given back.
void RunLoop::work(PoolSession& pool, const protocol::Lease& lease) {
  for (auto& other : pools_) {
    if (other.get() != &pool && other->ever_connected()) other->files().weights.free_memory();
  }
  if (in_work() == 0) memory_before_ = memory_unused();
  const size_t number = free_place();
  Place& place = *places_[number];
  place.pool = &pool;
  try {
    place.task = std::make_unique<UnitTask>(lease, pool.heartbeat_client(number), world_.clock, world_.stop);
  } catch (const std::system_error& error) {  // no thread for its heartbeat
    return give_back(pool, lease, system_failure(error).what());
  }
  try {
    begin(place);
  } catch (...) {
    leave(place, std::current_exception(), false);
  }
}

void RunLoop::begin(Place& place) {
  UnitInputs inputs = check_demand(place);
  materialise(place, inputs);
  start(place, std::move(inputs));
}

// A unit all of whose cards have failed, where others have no work: they compute it. False where it has an end.
bool RunLoop::begin_anew(Place& place) {
  if (!place.task->lost_its_cards() || place.task->cancelled()) return false;
  rig_.take_back(place.runner, std::exchange(place.cards, 0));
  if (rig_.idle_cards() == 0) return false;
  place.task->reset();
  place.held_bytes = 0;
  begin(place);
  return true;
}

// Understood, and within the limits of this rig.
UnitInputs RunLoop::check_demand(Place& place) {
  const protocol::Unit& unit = place.task->unit();
  PoolFiles& files = place.pool->files();
  const kernels::ModelConfig config = check_understood(unit);
  if (unit.kind == protocol::UnitKind::train) lanes_of_a_unit_ = unit.lanes;
  place.cards = rig_.lend(place.runner, lanes_of(unit));
  const UnitPlan plan = place.runner.plan(unit, config, memory_for_units(place));
  if (plan.cards < place.cards) {  // the host has no memory for more
    rig_.take_back(place.runner, place.cards);
    place.cards = rig_.lend(place.runner, plan.cards);
  }
  place.measured_seconds = estimated_seconds(unit, config, rig_.flops(place.runner));

  UnitDemand demand;
  demand.planned_bytes = plan.bytes;
  demand.held_bytes = place.held_bytes;
  demand.download_bytes = files.weights.missing_bytes(unit);
  for (const protocol::ShardReference& shard : unit.shards) {
    demand.download_bytes += files.blobs.missing_bytes(shard.blob);
  }
  demand.result_bytes = result_bytes(unit, config);
  demand.estimated_seconds = place.measured_seconds / speed_factor_;
  check_limits(unit, demand, config_.limits, memory_free(&place), place.task->lease().deadline_s);
  place.result_bytes = demand.result_bytes;
  uint64_t results = 0;
  for (const auto& other : places_) results += other->task ? other->result_bytes : 0;
  require_room(results);
  place.held_bytes = demand.planned_bytes;
  report_unit(unit, demand, plan.cards);
  return {config, plan};
}

void RunLoop::report_unit(const protocol::Unit& unit, const UnitDemand& demand, size_t cards) {
  const std::string on_cards = cards == 0 ? "" : cards == 1 ? "1 card, " : std::to_string(cards) + " cards, ";
  world_.log.write(Level::info, "unit",
                   unit.name + ": " + std::to_string(unit.tokens) + " tokens, " + on_cards + "planned memory " +
                       human_bytes(static_cast<double>(demand.planned_bytes)) + ", download " +
                       human_bytes(static_cast<double>(demand.download_bytes)),
                   {{"unit", unit.name},
                    {"tokens", unit.tokens},
                    {"cards", cards},
                    {"planned_bytes", demand.planned_bytes},
                    {"download_bytes", demand.download_bytes},
                    {"estimated_seconds", demand.estimated_seconds}});
}

void RunLoop::materialise(Place& place, UnitInputs& inputs) {
  const protocol::Unit& unit = place.task->unit();
  PoolFiles& files = place.pool->files();
  const BlobStore::Cancel cancel = [&] { return place.task->cancelled(); };
  inputs.weights = files.weights.materialise(place.pool->client(), unit, inputs.config, cancel);
  std::vector<std::filesystem::path> paths;
  for (const protocol::ShardReference& shard : unit.shards) {
    paths.push_back(files.blobs.fetch(place.pool->client(), shard.blob, cancel));
  }
  inputs.shards = std::make_unique<ShardFiles>(paths);
}

void RunLoop::start(Place& place, UnitInputs inputs) {
  const auto on_tokens = [this](uint64_t tokens) {
    const std::lock_guard lock(rates_mutex_);
    rates_.add(world_.clock.monotonic(), tokens);
  };
  const auto on_end = [this] {
    ended_.release();
    world_.stop.wake();
  };
  place.task->start(place.runner, std::move(inputs), 2 * static_cast<double>(config_.limits.seconds), on_tokens,
                    on_end);
}

// Of a unit that has ended.
void RunLoop::finish(Place& place) {
  std::optional<OutboxItem> item;
  std::exception_ptr error;
  try {
    if (begin_anew(place)) return;
    item = keep(place);
    const bool waits = place.pool->not_before > world_.clock.monotonic();  // then the next turn sends it
    if (!waits) send(*place.pool, *item, false);
  } catch (...) {
    error = std::current_exception();
  }
  leave(place, error, item.has_value());
}

// The result is in the outbox on return.
OutboxItem RunLoop::keep(Place& place) {
  const protocol::Unit& unit = place.task->unit();
  protocol::Submission submission;
  submission.lease = place.task->lease().lease;
  submission.unit = unit.name;
  submission.attempt = place.task->lease().attempt;
  try {
    const UnitResult result = place.task->result();
    if (unit.kind == protocol::UnitKind::train && result.seconds > 0) {
      speed_factor_ = place.measured_seconds / result.seconds;
    }
    submission.result = {result.digest, result.blob.size()};
    submission.segments_root = result.segments_root;
    submission.loss = result.loss;
    submission.tokens = result.tokens;
    submission.seconds = result.seconds;
    require_room(result.blob.size());
    return place.pool->files().outbox.put(submission, result.blob);
  } catch (const kernels::NumericFailure& failure) {
    world_.log.write(Level::warning, "diverged", unit.name + ": " + failure.what(), {{"unit", unit.name}});
    submission.diverged = true;
    submission.tensor = failure.tensor;
    submission.step = failure.step;
    return place.pool->files().outbox.put(submission, {});
  }
}

// The unit is delivered, or cannot be: then it is given back, but for errors that pass. kept: it is in the outbox.
void RunLoop::leave(Place& place, const std::exception_ptr& error, bool kept) {
  place.task->heartbeat().end();
  const protocol::Lease lease = place.task->lease();
  const bool wanted = place.task->heartbeat().wanted();
  const std::optional<PoolError> refusal = place.task->heartbeat().refusal();
  place.task.reset();
  if (place.cards > 0) place.held_bytes = 0;  // weights stay in the cache: see memory_unused()
  rig_.take_back(place.runner, std::exchange(place.cards, 0));
  last_work_ = world_.clock.monotonic();
  if (place.pool->dropped) return;
  if (refusal) throw PoolError(*refusal);
  if (!error) {
    ask_at_ = last_work_;  // what has come free may find work
    return;
  }
  const std::string reason = reason_to_give_back(error, kept);
  if (wanted) {
    give_back(*place.pool, lease, reason);
  } else {
    world_.log.write(Level::info, "unwanted", lease.unit.name + " is not wanted any more: another rig was first",
                     {{"unit", lease.unit.name}});
  }
}

// Rethrows what is the pool's or the network's: the lease stays, and a later turn goes on.
std::string RunLoop::reason_to_give_back(const std::exception_ptr& error, bool kept) {
  try {
    std::rethrow_exception(error);
  } catch (const kernels::Cancelled&) {
    return "the agent is stopping";
  } catch (const TransportError& transport) {
    if (transport.kind != TransportError::Kind::cancelled) throw;
    return "the agent is stopping";
  } catch (const UnitRefused& refused) {
    return refused.what();
  } catch (const NoCardLeft& no_card) {  // the others, or the CPU, take the next one
    return (rig_.on_cards() ? "its cards have failed, and the others have work: " : "no card is left: ") +
           std::string(no_card.what());
  } catch (const std::invalid_argument& invalid) {  // a token outside the vocabulary, a shape that cannot be
    return invalid.what();
  } catch (const protocol::Error& not_a_blob) {
    return not_a_blob.what();
  } catch (const std::bad_alloc&) {
    free_buffers();
    return "out of memory";
  } catch (const Failure& failure) {
    if (failure.code != Exit::disk || kept) throw;  // what is in the outbox is sent later
    return failure.what();
  } catch (const std::system_error& refused) {
    if (kept) throw;
    return system_failure(refused).what();
  }
}

void RunLoop::give_back(PoolSession& pool, const protocol::Lease& lease, const std::string& reason) {
  const bool stopping = world_.stop.requested();
  world_.log.write(stopping ? Level::info : Level::warning, "released", "gave " + lease.unit.name + " back: " + reason,
                   {{"unit", lease.unit.name}, {"reason", reason}});
  if (!stopping) {
    speed_factor_ = 1;  // one slow unit must not be held against this machine for ever
    ask_at_ = world_.clock.monotonic() + seconds_after_a_refused_unit;  // the pool may well offer the same again
  }
  if (stopping && pool.failures > 0) return;  // it does not answer, and a stop must not take long
  try {
    pool.client().release(lease.lease, reason, stopping);
  } catch (const PoolError& error) {
    if (!error.is(protocol::ErrorCode::lease_unknown)) throw;
  }
}

}  // namespace agent
