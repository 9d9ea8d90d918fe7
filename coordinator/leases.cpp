#include "leases.h"

#include <algorithm>
#include <cmath>

#include "accounts.h"
#include "choose_unit.h"
#include "protocol/plan.h"
#include "units.h"
#include "weights.h"

namespace pool {
namespace {

using protocol::Error;
using protocol::ErrorCode;

constexpr int64_t kept_instances = 64;  // of a key: an older one that still runs would pass for a new start

struct LeaseRow {
  std::string id;
  int64_t unit = 0, deadline = 0;
  uint64_t attempt = 0;
  bool replay = false, held = false;
};

#define LEASE_COLUMNS "id, unit, deadline, attempt, replay, state = 'held'"

LeaseRow lease_at(Statement& row) {
  return {text_at(row, 0),   row.getColumn(1).getInt64(),    row.getColumn(2).getInt64(),
          number_at(row, 3), row.getColumn(4).getInt() != 0, row.getColumn(5).getInt() != 0};
}

LeaseRow read_lease(Db& db, const RigIdentity& rig, const std::string& id) {
  Statement row = query(db, "SELECT " LEASE_COLUMNS " FROM leases WHERE id = ? AND key = ?", id, rig.key);
  if (!row.executeStep())
    throw Error(ErrorCode::lease_unknown, "this rig was not given a lease " + id + ", or it is long over");
  return lease_at(row);
}

// The newest start of an agent with this key is served; older ones are told that they are copies.
void take_instance(Db& db, const protocol::PublicKey& key, const std::string& instance) {
  if (execute(db, "INSERT OR IGNORE INTO instances (key, instance) VALUES (?, ?)", key, instance) > 0) {
    execute(db,
            "DELETE FROM instances WHERE key = ?1 AND sequence <= (SELECT sequence FROM instances WHERE key = ?1 "
            "ORDER BY sequence DESC LIMIT 1 OFFSET ?2)",
            key, kept_instances);
  }
  Statement newest = query(db, "SELECT instance FROM instances WHERE key = ? ORDER BY sequence DESC LIMIT 1", key);
  if (newest.executeStep() && text_at(newest, 0) != instance) {
    throw Error(ErrorCode::duplicate_instance,
                "a newer agent runs with the same key (a copied disk or a second start); give each rig its own key");
  }
}

// Keeps a lease alive for another renew_s, within its deadline.
void extend(Db& db, const std::string& id, int64_t deadline, int64_t now) {
  execute(db, "UPDATE leases SET expires = ? WHERE id = ?", std::min(now + renew_s, deadline), id);
}

// A lease that the key holds, or held under this request and could still use; none that its agent works on, nor one
// of weights that this rig cannot be given any more.
std::optional<LeaseRow> held_lease(Db& db, const RigIdentity& rig, const protocol::LeaseRequest& request, int64_t now) {
  Statement rows =
      query(db,
            "SELECT " LEASE_COLUMNS
            " FROM leases WHERE key = ? AND state = 'held' AND "
            "(expires > ? OR request_id = ? AND deadline > ?) AND id NOT IN (SELECT value FROM "
            "json_each(?)) ORDER BY request_id = ? DESC, given, id",
            rig.key, now, request.request_id, now, nlohmann::json(request.leases).dump(), request.request_id);
  while (rows.executeStep()) {
    const LeaseRow lease = lease_at(rows);
    const UnitRow unit = read_unit(db, lease.unit);
    if (is_wanted(db, unit, lease.replay, rig.account) && weights_source(db, unit.job, unit.round, request.held))
      return lease;
  }
  return std::nullopt;
}

// An agent says that it works on these: they are alive, whatever became of their renewals.
void extend_named(Db& db, const RigIdentity& rig, const protocol::LeaseRequest& request, int64_t now) {
  if (request.leases.empty()) return;
  execute(db,
          "UPDATE leases SET expires = min(?, deadline) WHERE key = ? AND state = 'held' AND deadline > ? AND id IN "
          "(SELECT value FROM json_each(?))",
          now + renew_s, rig.key, now, nlohmann::json(request.leases).dump());
}

bool may_hold_more(Db& db, const RigIdentity& rig, int64_t now) {
  return integer(db, 0, "SELECT count(*) FROM leases l WHERE l.key = ?1 AND " LEASE_LIVES("l", "?2"), rig.key, now) <
         max_leases_of_key;
}

LeaseRow give(Core& core, Db& db, const RigIdentity& rig, const std::string& request_id, const Choice& choice) {
  const int64_t now = core.clock.now();
  LeaseRow lease;
  lease.id = protocol::random_hex16();
  lease.unit = choice.unit.id;
  lease.attempt = 1 + static_cast<uint64_t>(std::max(
                          {integer(db, 0, "SELECT max(attempt) FROM leases WHERE unit = ?", choice.unit.id),
                           integer(db, 0, "SELECT max(attempt) FROM results WHERE unit = ?", choice.unit.id),
                           integer(db, 0, "SELECT restored FROM pool")}));  // above what the lost time gave out
  lease.deadline = now + 300 + std::llround(20 * choice.estimate);
  lease.replay = choice.replay;
  // Or taking and giving back would fill the table for as long as the unit is open.
  execute(db, "DELETE FROM leases WHERE unit = ? AND key = ? AND state = 'released'", lease.unit, rig.key);
  execute(db,
          "INSERT INTO leases (id, unit, attempt, key, request_id, replay, given, expires, deadline, estimate) "
          "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
          lease.id, lease.unit, lease.attempt, rig.key, request_id, lease.replay, now,
          std::min(now + renew_s, lease.deadline), lease.deadline, choice.estimate);
  return lease;
}

protocol::Lease describe(Core& core, Db& db, const LeaseRow& lease, std::span<const protocol::HeldWeights> held) {
  const UnitRow row = read_unit(db, lease.unit);
  protocol::Lease answer;
  answer.lease = lease.id;
  answer.attempt = lease.attempt;
  answer.renew_s = renew_s;
  answer.deadline_s = static_cast<uint64_t>(std::max<int64_t>(0, lease.deadline - core.clock.now()));
  answer.unit = protocol::plan_unit(core.job(db, row.job)->description, row.round, row.kind, row.number);
  answer.unit.weights = weights_source(db, row.job, answer.unit.base_round, held).value();  // whoever chose it looked
  return answer;
}

}  // namespace

protocol::LeaseAnswer lease(Core& core, const RigIdentity& rig, const protocol::LeaseRequest& request) {
  require_recent_agent(request.agent);
  return core.store.write([&](Db& db) {
    take_instance(db, rig.key, request.instance);
    execute(db, "UPDATE rigs SET agent = ?1 WHERE key = ?2 AND agent <> ?1", request.agent, rig.key);
    protocol::LeaseAnswer answer;
    const int64_t now = core.clock.now();
    extend_named(db, rig, request, now);
    if (const auto held = held_lease(db, rig, request, now)) {
      extend(db, held->id, held->deadline, now);
      answer.lease = describe(core, db, *held, request.held);
      return answer;
    }
    if (!may_hold_more(db, rig, now)) {
      answer.none = {"nothing_to_do",
                     "this rig holds " + std::to_string(max_leases_of_key) + " leases, the most that one may", 5};
      return answer;
    }
    ChoiceOrReason found = choose_unit(core, db, rig, request);
    if (found.choice) {
      answer.lease = describe(core, db, give(core, db, rig, request.request_id, *found.choice), request.held);
    } else {
      answer.none = std::move(found.none);
    }
    return answer;
  });
}

protocol::RenewalAnswer renew(Core& core, const RigIdentity& rig, const std::string& id) {
  return core.store.write([&](Db& db) {
    const LeaseRow lease = read_lease(db, rig, id);
    const int64_t now = core.clock.now();
    protocol::RenewalAnswer answer;
    answer.renew_s = renew_s;
    answer.wanted = lease.held && is_wanted(db, read_unit(db, lease.unit), lease.replay, rig.account);
    if (!answer.wanted || lease.deadline <= now) return answer;
    extend(db, id, lease.deadline, now);
    answer.deadline_s = static_cast<uint64_t>(lease.deadline - now);
    return answer;
  });
}

void release(Core& core, const RigIdentity& rig, const std::string& id) {
  core.store.write([&](Db& db) {
    if (read_lease(db, rig, id).held) {
      execute(db, "UPDATE leases SET state = 'released', ended = ? WHERE id = ?", core.clock.now(), id);
    }
  });
}

}  // namespace pool
