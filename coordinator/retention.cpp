#include "retention.h"

#include "settlements.h"
#include "uploads.h"

namespace pool {

void retire_files(Db& db, const std::string& job, uint64_t closed) {
  const auto newest = static_cast<int64_t>(closed) + 1;  // weights
  const int64_t old = static_cast<int64_t>(closed) - static_cast<int64_t>(settlement_rounds);
  // Where an update before it is lost, a checkpoint stays: without it there would be no way to the rounds after it.
  execute(
      db,
      "UPDATE weights SET kept = 0 WHERE job = ?1 AND kept AND round < ?2 AND round % 50 <> 0 AND EXISTS (SELECT 1 "
      "FROM weights w WHERE w.job = ?1 AND w.kept AND w.round BETWEEN weights.round - 50 AND weights.round - 1 AND "
      "weights.round - w.round = (SELECT count(*) FROM updates u WHERE u.job = ?1 AND u.kept AND u.round >= w.round "
      "AND u.round < weights.round))",
      job, newest - 2);
  execute(db,
          "UPDATE updates SET kept = 0 WHERE job = ?1 AND kept AND round < (SELECT min(round) FROM weights WHERE job = "
          "?1 AND kept)",
          job);
  // The few rows that are kept lead to their units (CROSS JOIN fixes the order), not all old units to their rows.
  execute(db,
          "UPDATE results SET kept = 0 WHERE id IN (SELECT r.id FROM results r CROSS JOIN units u ON u.id = r.unit "
          "WHERE r.kept AND u.job = ? AND u.round <= ?)",
          job, old);
  execute(db,
          "DELETE FROM leases WHERE id IN (SELECT l.id FROM leases l CROSS JOIN units u ON u.id = l.unit WHERE u.job = "
          "? AND "
          "u.round <= ? AND u.accepted IS NOT NULL AND NOT EXISTS (SELECT 1 FROM checks c WHERE c.unit = u.id AND "
          "c.state = 'open'))",
          job, old);
}

void tidy(Core& core) {
  core.store.write([&](Db& db) { execute(db, "DELETE FROM nonces WHERE until < ?", core.clock.now()); });
  remove_stale_uploads(core);
  core.store.collect_garbage();
}

}  // namespace pool
