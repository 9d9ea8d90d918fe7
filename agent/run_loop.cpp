#include "run_loop.h"

#include <algorithm>
#include <cmath>

#include "delivery.h"
#include "engine.h"
#include "lane_data.h"
#include "system_info.h"
#include "unit_limits.h"

namespace agent {
namespace {

constexpr double seconds_until_buffers_go = 30;
constexpr double seconds_between_settlements = 60;
constexpr double seconds_between_no_work_lines = 60;
constexpr double seconds_after_a_refused_unit = 30;

}  // namespace

RunLoop::RunLoop(const Config& config, const RigKeys& keys, uint64_t units, Surroundings& world)
    : config_(config),
      keys_(keys),
      units_wanted_(units),
      world_(world),
      instance_(protocol::random_hex16()),
      runner_(world.make_ops),
      untried_cards_(world.cards) {
  for (const PoolConfig& pool : config.pools) {
    const uint64_t seed = std::hash<std::string>()(instance_ + pool.url);
    pools_.push_back(std::make_unique<PoolSession>(pool, config, keys, seed, world));
  }
}

void RunLoop::run() {
  while (!world_.stop.requested() && (units_wanted_ == 0 || accepted_ < units_wanted_)) {
    PoolSession* pool = next_pool();
    if (pool == nullptr) continue;  // waited
    try {
      pool->connect();
      prepare_engines();
      turn(*pool);
      pool->failures = 0;
      pool->backoff.reset();
    } catch (const kernels::Cancelled&) {  // a stop during the self-test
    } catch (...) {
      pool_failed(*pool, std::current_exception());
    }
    report_clock(*pool);
  }
}

// One unit, or one answer that there is none.
void RunLoop::turn(PoolSession& pool) {
  send_outbox(pool);
  fetch_settlements(pool);
  if (!has_room(pool)) return;
  const protocol::LeaseAnswer answer = fetch(pool);
  if (answer.lease) {
    work(pool, *answer.lease);
  } else {
    no_work(*answer.none);
  }
}

protocol::LeaseAnswer RunLoop::fetch(PoolSession& pool) {
  if (!open_request_) open_request_ = protocol::random_hex16();
  protocol::LeaseRequest request;
  request.request_id = *open_request_;
  request.instance = instance_;
  request.agent = "gradminer/" GRADMINER_VERSION;
  request.profiles = engine_profiles();
  request.codecs = {"fp32", "int4"};
  request.kinds = {"train", "evaluate"};
  request.memory_bytes = memory_on_offer();
  request.flops = flops_;
  request.held = pool.files().weights.held();
  protocol::LeaseAnswer answer = pool.client().lease(request);
  open_request_.reset();
  return answer;
}

void RunLoop::work(PoolSession& pool, const protocol::Lease& lease) {
  for (auto& other : pools_) {
    if (other.get() != &pool && other->ever_connected()) other->files().weights.free_memory();
  }
  progress_ = 0;
  Heartbeat heartbeat(pool.heartbeat_client(), lease.lease, lease.renew_s, [this] { return progress_.load(); });
  const kernels::Cancel cancel = [&] { return world_.stop.requested() || !heartbeat.wanted(); };
  std::string refused;
  std::optional<OutboxItem> item;
  try {
    item = compute(pool, lease, cancel);
    send(pool, *item, false);
  } catch (const kernels::Cancelled&) {
    refused = "the agent is stopping";
  } catch (const TransportError& error) {
    if (error.kind != TransportError::Kind::cancelled) throw;  // the lease stays: a later turn goes on
    refused = "the agent is stopping";
  } catch (const UnitRefused& error) {
    refused = error.what();
  } catch (const NoCardLeft& error) {  // the CPU takes the next one
    engines_ready_ = false;
    refused = std::string("no card is left: ") + error.what();
  } catch (const std::invalid_argument& error) {  // a token outside the vocabulary, a shape that cannot be
    refused = error.what();
  } catch (const protocol::Error& error) {  // a blob that is none
    refused = error.what();
  } catch (const std::bad_alloc&) {
    runner_.free_buffers();
    refused = "out of memory";
  } catch (const Failure& error) {
    if (error.code != Exit::disk || item) throw;  // what is in the outbox is sent later
    refused = error.what();
  } catch (const std::system_error& error) {  // of std::filesystem
    if (item) throw;
    refused = disk_failure(error).what();
  }
  heartbeat.end();
  last_work_ = world_.clock.monotonic();
  if (const std::optional<PoolError> refusal = heartbeat.refusal()) throw PoolError(*refusal);
  if (refused.empty()) return;
  if (!heartbeat.wanted()) {
    world_.log.write(Level::info, "unwanted", lease.unit.name + " is not wanted any more: another rig was first",
                     {{"unit", lease.unit.name}});
    return;
  }
  give_back(pool, lease, refused);
}

// Materialise, compute and combine the lanes, encode; the result is in the outbox on return.
OutboxItem RunLoop::compute(PoolSession& pool, const protocol::Lease& lease, const kernels::Cancel& cancel) {
  const protocol::Unit& unit = lease.unit;
  const auto [config, plan] = check_demand(pool, lease);
  PoolFiles& files = pool.files();

  const std::span<const float> weights = files.weights.materialise(pool.client(), unit, config, cancel);
  std::vector<std::filesystem::path> paths;
  for (const protocol::ShardReference& shard : unit.shards) {
    paths.push_back(files.blobs.fetch(pool.client(), shard.blob, cancel));
  }
  const ShardFiles shards(paths);
  const ReadTokens read_tokens = [&](size_t shard, uint64_t first, std::span<uint16_t> out) {
    shards.read(shard, first, out);
  };

  protocol::Submission submission;
  submission.lease = lease.lease;
  submission.unit = unit.name;
  submission.attempt = lease.attempt;
  uint64_t done = 0;
  const double begin = world_.clock.monotonic(), allowed = 2 * static_cast<double>(config_.limits.seconds);
  bool overdue = false;  // a pool can mislead the estimate
  const kernels::Cancel cancel_computing = [&] {
    overdue = overdue || world_.clock.monotonic() - begin > allowed;
    return overdue || cancel();
  };
  const OnProgress on_progress = [&](uint64_t tokens) {
    if (tokens > done) rates_.add(world_.clock.monotonic(), tokens - done);
    done = std::max(done, tokens);
    progress_ = static_cast<double>(done) / static_cast<double>(unit.tokens);
  };
  try {
    const UnitResult result = runner_.run(unit, config, plan, weights, read_tokens, on_progress, cancel_computing);
    if (unit.kind == protocol::UnitKind::train && result.seconds > 0) {
      flops_ *= estimated_seconds(unit, config, flops_) / result.seconds;
    }
    submission.result = {result.digest, result.blob.size()};
    submission.segments_root = result.segments_root;
    submission.loss = result.loss;
    submission.tokens = result.tokens;
    submission.seconds = result.seconds;
    require_room(result.blob.size());
    return files.outbox.put(submission, result.blob);
  } catch (const kernels::Cancelled&) {
    if (!overdue) throw;
    throw UnitRefused("takes more than " + std::to_string(std::llround(allowed)) + " s, twice this rig's limit");
  } catch (const kernels::NumericFailure& failure) {
    world_.log.write(Level::warning, "diverged", unit.name + ": " + failure.what(), {{"unit", unit.name}});
    submission.diverged = true;
    submission.tensor = failure.tensor;
    submission.step = failure.step;
    return files.outbox.put(submission, {});
  }
}

// Upload, sign and submit, keep the receipt.
void RunLoop::send(PoolSession& pool, const OutboxItem& item, bool waited) {
  PoolFiles& files = pool.files();
  const std::string name = Outbox::name_of(item.submission);
  const double begin = world_.clock.monotonic();
  try {
    const Delivery delivery =
        deliver(pool.client(), pool.identity(), keys_.current.public_key(), pool.piece_bytes(), item, waited);
    files.receipts.add(delivery.receipt, delivery.document);
    files.outbox.remove(name);
    report_accepted(item.submission, delivery.receipt, world_.clock.monotonic() - begin);
  } catch (const PoolError& error) {
    if (!is_final_for_item(error)) throw;
    files.outbox.remove(name);
    ++rejected_;
    world_.log.write(Level::error, "rejected",
                     "rejected " + item.submission.unit + ": " + error.what() + " | accepted " +
                         std::to_string(accepted_) + ", rejected " + std::to_string(rejected_),
                     {{"unit", item.submission.unit}, {"code", error.answer.code}, {"reason", error.answer.name}});
  }
}

void RunLoop::send_outbox(PoolSession& pool) {
  Outbox& outbox = pool.files().outbox;
  for (const std::string& name : outbox.names()) {
    if (world_.stop.requested()) return;
    world_.log.write(Level::info, "outbox", "sending " + name + ", which waited in the outbox", {{"item", name}});
    std::optional<OutboxItem> item;
    try {
      item = outbox.load(name);
    } catch (const Failure& error) {  // the disk's fault, which may pass
      world_.log.write(Level::error, "outbox", name + " stays in the outbox: " + error.what(), {{"item", name}});
      continue;
    } catch (const std::exception& error) {
      world_.log.write(Level::error, "outbox_damaged", name + " in the outbox is damaged and dropped: " + error.what(),
                       {{"item", name}});
      outbox.remove(name);
      continue;
    }
    send(pool, *item, true);
  }
}

void RunLoop::give_back(PoolSession& pool, const protocol::Lease& lease, const std::string& reason) {
  const bool stopping = world_.stop.requested();
  world_.log.write(stopping ? Level::info : Level::warning, "released", "gave " + lease.unit.name + " back: " + reason,
                   {{"unit", lease.unit.name}, {"reason", reason}});
  try {
    pool.client().release(lease.lease, reason, stopping);
  } catch (const PoolError& error) {
    if (!error.is(protocol::ErrorCode::lease_unknown)) throw;
  }
  if (stopping) return;
  flops_ = speed();                    // one slow unit must not be held against this machine for ever
  idle(seconds_after_a_refused_unit);  // the pool may well offer the same again
}

void RunLoop::no_work(const protocol::NoLease& answer) {
  const double now = world_.clock.monotonic();
  if (now - last_no_work_log_ >= seconds_between_no_work_lines) {
    last_no_work_log_ = now;
    world_.log.write(Level::info, "no_work", "no work because " + answer.reason + ": " + printable(answer.message),
                     {{"reason", answer.reason}});
  }
  idle(static_cast<double>(std::clamp<uint64_t>(answer.retry_after_s, 1, 300)));
}

// What a unit may plan, when `available` bytes are free beside the buffers that are held.
uint64_t RunLoop::memory_for_units(uint64_t available) const {
  const uint64_t limit = config_.limits.memory_mb > 0 ? config_.limits.memory_mb * 1'000'000 : UINT64_MAX;
  return std::min(available + held_bytes_, limit);
}

// Understood, and within the limits of this rig.
RunLoop::Understood RunLoop::check_demand(PoolSession& pool, const protocol::Lease& lease) {
  const protocol::Unit& unit = lease.unit;
  const kernels::ModelConfig config = check_understood(unit);
  PoolFiles& files = pool.files();
  const uint64_t available = memory_available();
  const UnitPlan plan = runner_.plan(unit, config, memory_for_units(available));
  UnitDemand demand;
  demand.planned_bytes = plan.bytes;
  demand.held_bytes = held_bytes_;
  demand.download_bytes = files.weights.missing_bytes(unit);
  for (const protocol::ShardReference& shard : unit.shards) {
    demand.download_bytes += files.blobs.missing_bytes(shard.blob);
  }
  demand.result_bytes = result_bytes(unit, config);
  demand.estimated_seconds = estimated_seconds(unit, config, flops_);
  check_limits(unit, demand, config_.limits, available, lease.deadline_s);
  require_room(demand.result_bytes);
  held_bytes_ = demand.planned_bytes;
  world_.log.write(Level::info, "unit",
                   unit.name + ": " + std::to_string(unit.tokens) + " tokens, planned memory " +
                       human_bytes(static_cast<double>(demand.planned_bytes)) + ", download " +
                       human_bytes(static_cast<double>(demand.download_bytes)),
                   {{"unit", unit.name},
                    {"tokens", unit.tokens},
                    {"planned_bytes", demand.planned_bytes},
                    {"download_bytes", demand.download_bytes},
                    {"estimated_seconds", demand.estimated_seconds}});
  return {config, plan};
}

// Throws UnitRefused where a result of so many bytes would leave less than the reserve on the disk.
void RunLoop::require_room(uint64_t bytes) const {
  if (disk_free(config_.data) >= bytes + config_.disk_reserve_mb * megabyte) return;
  throw UnitRefused("the disk of " + config_.data.string() + " has no room for its result of " +
                    human_bytes(static_cast<double>(bytes)));
}

std::string RunLoop::lack_of_room(PoolSession& pool) const {
  const uint64_t waiting = pool.files().outbox.bytes(), free = disk_free(config_.data);
  if (waiting >= config_.outbox_limit_mb * megabyte) {
    return "the outbox is full: " + human_bytes(static_cast<double>(waiting));
  }
  if (free >= config_.disk_reserve_mb * megabyte) return "";
  return "the disk of " + config_.data.string() + " is full: " + human_bytes(static_cast<double>(free)) + " free";
}

// No lease is taken whose result could not be kept.
bool RunLoop::has_room(PoolSession& pool) {
  const std::string problem = lack_of_room(pool);
  if (problem.empty()) return true;
  world_.log.write(Level::warning, "no_room", "no work is taken: " + problem);
  idle(30);
  return false;
}

// Waits; buffers that are not needed for a while go back to the system.
void RunLoop::idle(double seconds) {
  const double end = world_.clock.monotonic() + seconds;
  auto sleep_until = [&](double time) {
    const double pause = time - world_.clock.monotonic();
    if (pause > 0 && !world_.stop.requested()) world_.clock.sleep(pause);
  };
  const double buffers_go = last_work_ + seconds_until_buffers_go;
  if (buffers_go <= end) {
    sleep_until(buffers_go);
    for (auto& pool : pools_) {
      if (pool->ever_connected()) pool->files().weights.free_memory();
    }
    runner_.free_buffers();
    held_bytes_ = 0;
  }
  sleep_until(end);
}

void RunLoop::fetch_settlements(PoolSession& pool) {
  const double now = world_.clock.monotonic();
  if (now - last_settlements_ < seconds_between_settlements) return;
  last_settlements_ = now;
  ReceiptBook& book = pool.files().receipts;
  for (bool more = true; more && lack_of_room(pool).empty();) {  // a pool may have settlements without end
    const uint64_t after = book.last_settlement();
    for (const protocol::SignedDocument& document : pool.client().settlements(after)) {
      const protocol::Settlement settlement = protocol::settlement_from_canonical(document.document);
      if (!pool.identity().signed_by_pool(document) || settlement.pool_id != pool.identity().pool_id) {
        throw Failure(Exit::refused,
                      "the pool at " + pool.config().url + " gave a settlement that its key did not sign");
      }
      if (settlement.rig != keys_.current.public_key()) {
        throw Failure(Exit::refused, "the pool at " + pool.config().url + " gave a settlement of another rig");
      }
      book.add(settlement, document);
      if (settlement.settled) continue;
      world_.log.write(Level::error, "voided", settlement.unit + " was voided: " + settlement.reason,
                       {{"unit", settlement.unit}, {"reason", settlement.reason}});
    }
    more = book.last_settlement() > after;
  }
}

void RunLoop::report_accepted(const protocol::Submission& submission, const protocol::Receipt& receipt,
                              double round_trip) {
  if (receipt.outcome == protocol::Outcome::superseded) {
    ++superseded_;
    world_.log.write(Level::info, "superseded",
                     submission.unit + " came too late: another rig was first | late " + std::to_string(superseded_),
                     {{"unit", submission.unit}});
    return;
  }
  ++accepted_;
  earned_ += receipt.price;
  const double now = world_.clock.monotonic();
  const double rates[] = {rates_.per_second(now, 10), rates_.per_second(now, 60), rates_.per_second(now, 900)};
  char numbers[160];
  std::snprintf(numbers, sizeof numbers, "loss %.4f, %.1f s, %.0f ms", static_cast<double>(submission.loss),
                submission.seconds, round_trip * 1000);
  world_.log.write(Level::good, "accepted",
                   "accepted " + submission.unit + " (" + (submission.diverged ? "diverged" : numbers) +
                       ") | accepted " + std::to_string(accepted_) + ", rejected " + std::to_string(rejected_) + " | " +
                       human_rate(rates[0]) + " / " + human_rate(rates[1]) + " / " + human_rate(rates[2]) +
                       " tokens/s (10 s / 60 s / 15 min) | earned " + std::to_string(earned_) + " micro-credits",
                   {{"unit", submission.unit},
                    {"outcome", submission.diverged ? "diverged" : "accepted"},
                    {"loss", submission.loss},
                    {"seconds", submission.seconds},
                    {"accepted", accepted_},
                    {"rejected", rejected_},
                    {"tokens_per_second", rates},
                    {"earned", earned_}});
}

}  // namespace agent
