#include "run_loop.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "delivery.h"
#include "engine.h"
#include "lane_data.h"
#include "protocol/blob.h"
#include "system_info.h"
#include "unit_limits.h"

namespace agent {
namespace {

constexpr double seconds_until_buffers_go = 30;
constexpr double seconds_between_settlements = 60;
constexpr double seconds_between_no_work_lines = 60;

}  // namespace

RunLoop::RunLoop(const Config& config, const RigKeys& keys, uint64_t units, Surroundings& world)
    : config_(config),
      keys_(keys),
      units_wanted_(units),
      world_(world),
      instance_(protocol::random_hex16()),
      rig_(world),
      last_work_(world.clock.monotonic()) {
  for (const PoolConfig& pool : config.pools) {
    const uint64_t seed = std::hash<std::string>()(instance_ + pool.url);
    pools_.push_back(std::make_unique<PoolSession>(pool, config, keys, seed, world));
  }
}

void RunLoop::run() {
  while (wants_units() || in_work() > 0) {
    if (!wants_units() || !can_work()) {
      ended_.acquire();
      finish_ended();
    } else if (ended_.try_acquire()) {
      finish_ended();
    } else if (const double pause = ask_at_ - world_.clock.monotonic(); pause > 0) {
      idle(pause);
    } else if (PoolSession* pool = next_pool()) {
      with_pool(*pool, [&] {
        pool->connect();
        prepare_rig();
        turn(*pool);
        pool->succeeded();
      });
      visit_others(*pool);
    }
  }
}

// Where the CPU computed until a card has what it lacked, its buffers go.
void RunLoop::prepare_rig() {
  const bool on_cards = rig_.on_cards();
  rig_.prepare(places_[free_place()]->runner);
  if (rig_.on_cards() != on_cards) free_buffers();
}

void RunLoop::finish_ended() {
  Place& place = ended_place();
  with_pool(*place.pool, [&] { finish(place); });
}

void RunLoop::with_pool(PoolSession& pool, const std::function<void()>& action) {
  try {
    action();
  } catch (const kernels::Cancelled&) {  // a stop during the self-test
  } catch (...) {
    pool_failed(pool, std::current_exception(), pool.ever_connected());
  }
  report_clock(pool);
}

// Begins one unit, or learns that there is none.
void RunLoop::turn(PoolSession& pool) {
  send_outbox(pool);
  fetch_settlements(pool);
  if (!wants_units() || !has_room(pool)) return;
  const protocol::LeaseAnswer answer = fetch(pool);
  if (answer.lease) {
    closing_pause_ = 0;
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
  request.codecs = protocol::codec_names();
  request.kinds = {"train", "evaluate"};
  request.memory_bytes = memory_on_offer();
  request.flops = speed_factor_ * rig_.idle_flops(lanes_of_a_unit_.value_or(UINT64_MAX));
  request.held = pool.files().weights.held();
  if (request.held.size() > protocol::max_held) request.held.resize(protocol::max_held);
  for (const auto& place : places_) {  // other pools' too: they may be the same one under another address
    if (place->task) request.leases.push_back(place->task->lease().lease);
  }
  protocol::LeaseAnswer answer = pool.client().lease(request);
  open_request_.reset();
  return answer;
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

void RunLoop::no_work(const protocol::NoLease& answer) {
  const double now = world_.clock.monotonic();
  if (now - last_no_work_log_ >= seconds_between_no_work_lines) {
    last_no_work_log_ = now;
    world_.log.write(Level::info, "no_work", "no work because " + answer.reason + ": " + printable(answer.message),
                     {{"reason", answer.reason}});
  }
  const auto pause = static_cast<double>(std::min<uint64_t>(answer.retry_after_s, 300));
  closing_pause_ = pause > 0 ? 0 : std::clamp(2 * closing_pause_, 0.05, 1.0);
  ask_at_ = now + pause + closing_pause_;
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
  ask_at_ = world_.clock.monotonic() + 30;
  return false;
}

// Waits, at most until a unit ends. Buffers that are not needed for a while go back to the system.
void RunLoop::idle(double seconds) {
  const double end = world_.clock.monotonic() + seconds;
  auto sleep_until = [&](double time) {
    while (!world_.stop.requested() && world_.clock.monotonic() < time) {
      world_.clock.sleep(time - world_.clock.monotonic());
      if (in_work() > 0) return;
    }
  };
  const double buffers_go = last_work_ + seconds_until_buffers_go;
  if (in_work() == 0 && buffers_go <= end) {
    sleep_until(buffers_go);
    for (auto& pool : pools_) {
      if (pool->ever_connected()) pool->files().weights.free_memory();
    }
    free_buffers();
  }
  sleep_until(end);
}

void RunLoop::fetch_settlements(PoolSession& pool) {
  const double now = world_.clock.monotonic();
  if (now - pool.last_settlements < seconds_between_settlements) return;
  pool.last_settlements = now;
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
  double rates[3];
  {
    const std::lock_guard lock(rates_mutex_);
    std::ranges::transform(std::array{10, 60, 900}, rates,
                           [&](double window) { return rates_.per_second(now, window); });
  }
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
