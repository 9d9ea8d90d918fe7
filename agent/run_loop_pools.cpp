// Which pool the loop works for: the first in order that is not waiting after a failure, so a rig returns to its first
// pool as soon as that pool's pause is over and it answers. The others are visited where finished units wait for them.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "protocol/http_signature.h"
#include "run_loop.h"

namespace agent {

// After so many failures in a row with no pool ever reached, a person should look.
constexpr int failures_at_start = 3;
constexpr double seconds_between_visits = 60;

// Null after a wait, or when a stop was requested.
PoolSession* RunLoop::next_pool() {
  const double now = world_.clock.monotonic();
  double earliest = INFINITY;
  for (const auto& pool : pools_) {
    if (pool->dropped) continue;
    if (pool->not_before <= now) return pool.get();
    earliest = std::min(earliest, pool->not_before);
  }
  idle(earliest - now);
  return nullptr;
}

// Sends what waits for other pools than the one that is worked for.
void RunLoop::visit_others(const PoolSession& pool) {
  for (const auto& other : pools_) {
    const double now = world_.clock.monotonic();
    if (other.get() == &pool || other->dropped || other->not_before > now || world_.stop.requested()) continue;
    if (now - other->last_visit < seconds_between_visits) continue;
    other->last_visit = now;
    try {
      if (!other->has_waiting()) continue;
      other->connect();
      send_outbox(*other);
      fetch_settlements(*other);
      other->succeeded();
    } catch (...) {
      pool_failed(*other, std::current_exception(), true);  // what waits there shows that it was reached before
    }
    report_clock(*other);
  }
}

void RunLoop::pool_failed(PoolSession& pool, const std::exception_ptr& error, bool ever_connected) {
  const PoolTrouble trouble = explain(error, pool.config(), ever_connected);
  if (trouble.kind == PoolTrouble::Kind::stopping) return;
  if (!trouble.busy) pool.disconnect();  // its keys may be others when it is back
  ++pool.failures;
  if (trouble.kind == PoolTrouble::Kind::final) {
    pool.dropped = true;
    for (const auto& place : places_) {
      if (place->task && place->pool == &pool) place->task->abandon();
    }
    last_refusal_.emplace(trouble.exit_code, trouble.message);
    require_some_pool();
    world_.log.write(Level::warning, "pool_dropped", trouble.message, {{"pool", pool.config().url}});
    return;
  }
  last_refusal_.emplace(Exit::unreachable, trouble.message);
  const double pause = pool.backoff.next();
  const double asked = std::min(trouble.wait_seconds.value_or(trouble.busy ? 0 : pause), Backoff::longest);
  const double wait = trouble.busy ? std::max(pause, asked) : asked;
  pool.not_before = world_.clock.monotonic() + wait;
  require_some_pool();
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%.1f", wait);
  world_.log.write(Level::warning, "pool_failed", trouble.message + "; next attempt in " + seconds + " s",
                   {{"pool", pool.config().url}, {"wait_seconds", wait}});
}

// Throws the last failure when no pool is left, or none was ever reached and each was tried often enough.
void RunLoop::require_some_pool() const {
  const bool reached =
      std::any_of(pools_.begin(), pools_.end(), [](const auto& pool) { return pool->ever_connected(); });
  for (const auto& pool : pools_) {
    if (pool->dropped) continue;
    if (reached || pool->failures < failures_at_start) return;
  }
  throw Failure(*last_refusal_);
}

void RunLoop::report_clock(PoolSession& pool) {
  const int64_t offset = pool.client().clock_offset();
  if (offset == pool.reported_clock_offset) return;
  pool.reported_clock_offset = offset;
  if (std::abs(offset) <= protocol::max_skew_s) {  // of an offset from before
    world_.log.write(Level::info, "clock", "this machine's clock is right again", {{"offset_seconds", offset}});
    return;
  }
  world_.log.write(Level::warning, "clock",
                   "this machine's clock is " + std::to_string(std::abs(offset)) + " s " +
                       (offset < 0 ? "ahead of" : "behind") + " the pool's; signatures follow the pool's clock, but " +
                       "this machine's should be set",
                   {{"offset_seconds", offset}});
}

}  // namespace agent
