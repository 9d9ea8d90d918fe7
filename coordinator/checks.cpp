#include "checks.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "accounts.h"
#include "leases.h"
#include "settlements.h"

namespace pool {
namespace {

constexpr int64_t new_key_results = 3;          // the first results of a key …
constexpr uint64_t new_key_check_ppm = 500000;  // … are checked at least this often
constexpr int64_t presence_s = 120;             // a rig seen within this time may still do a check
constexpr int64_t patience_s = 900;             // how long a finished job waits for its checks

struct Claim {
  int64_t result = 0;
  std::string account;
  protocol::Digest value{};
  protocol::PublicKey key{};
};

std::vector<Claim> read_claims(Db& db, int64_t unit) {
  Statement rows =
      query(db, "SELECT id, account, claim, key FROM results WHERE unit = ? AND pay <> 'voided' ORDER BY id", unit);
  std::vector<Claim> claims;
  while (rows.executeStep()) {
    claims.push_back({rows.getColumn(0).getInt64(), text_at(rows, 1), bytes_at(rows, 2), bytes_at(rows, 3)});
  }
  return claims;
}

std::map<protocol::Digest, std::set<std::string>> accounts_by_claim(const std::vector<Claim>& claims) {
  std::map<protocol::Digest, std::set<std::string>> accounts;
  for (const Claim& claim : claims) accounts[claim.value].insert(claim.account);
  return accounts;
}

// Everything of the key that is not settled loses its pay. What it gave to rounds that are still open, and evaluations
// of any round, are done again, except where another account's equal result takes the place.
void bar(Core& core, Db& db, const protocol::PublicKey& key, const std::string& reason) {
  stop_rig(db, key, "barred", reason, core.clock.now());
  Statement rows = query(db, "SELECT id FROM results WHERE key = ? AND pay IN ('escrowed', 'none')", key);
  std::vector<int64_t> results;
  while (rows.executeStep()) results.push_back(rows.getColumn(0).getInt64());
  for (const int64_t result : results) {
    void_result(core, db, result, reason);
    execute(
        db,
        "UPDATE units SET accepted = (SELECT same.id FROM results own JOIN results same ON same.unit = own.unit AND "
        "same.claim = own.claim AND same.account <> own.account WHERE own.id = ?1 AND same.outcome = 'accepted' AND "
        "same.pay <> 'voided' AND same.kept ORDER BY same.id LIMIT 1) WHERE id = (SELECT unit FROM results WHERE "
        "id = ?1) AND accepted = ?1 AND (kind = 'evaluate' OR EXISTS (SELECT 1 FROM rounds r WHERE r.job = "
        "units.job AND r.round = units.round AND r.closed IS NULL))",
        result);
  }
}

void close_check(Core& core, Db& db, int64_t unit, const char* state) {
  execute(db, "UPDATE checks SET state = ?, closed = ? WHERE unit = ? AND state = 'open'", state, core.clock.now(),
          unit);
}

void open_check(Core& core, Db& db, int64_t unit) {
  execute(
      db,
      "INSERT INTO checks (unit, opened) VALUES (?, ?) ON CONFLICT (unit) DO UPDATE SET state = 'open', closed = NULL "
      "WHERE state = 'expired'",
      unit, core.clock.now());
}

bool someone_could_check(Core& core, Db& db, int64_t unit) {
  return integer(db, 0,
                 "SELECT count(*) FROM rigs WHERE state = 'active' AND last_seen > ? AND account NOT IN "
                 "(SELECT account FROM results WHERE unit = ?)",
                 core.clock.now() - presence_s, unit) > 0;
}

}  // namespace

void draw_check(Core& core, Db& db, const Job& job, const UnitRow& unit, const protocol::PublicKey& key) {
  uint64_t ppm = job.description.check_share_ppm;
  if (ppm == 0) return;
  if (integer(db, 0, "SELECT count(*) FROM (SELECT 1 FROM results WHERE key = ? AND outcome = 'accepted' LIMIT ?)", key,
              new_key_results + 1) <= new_key_results) {
    ppm = std::max(ppm, new_key_check_ppm);
  }
  std::random_device system_randomness;
  if (std::uniform_int_distribution<uint64_t>(0, 999999)(system_randomness) < ppm) open_check(core, db, unit.id);
}

void compare_claims(Core& core, Db& db, const UnitRow& unit) {
  const std::vector<Claim> claims = read_claims(db, unit.id);
  const auto accounts = accounts_by_claim(claims);
  const auto decided =
      std::find_if(accounts.begin(), accounts.end(), [](const auto& entry) { return entry.second.size() >= 2; });
  if (decided == accounts.end()) {
    if (accounts.size() >= 2) open_check(core, db, unit.id);
    return;
  }
  bool all_agree = true;
  for (const Claim& claim : claims) {
    if (claim.value == decided->first) continue;
    all_agree = false;
    open_check(core, db, unit.id);  // so that the books show what was found
    bar(core, db, claim.key, "its result of " + unit.name + " differs from what two other accounts computed");
  }
  // Where the round is still open, the right result takes the place of the one that a bar has just voided.
  execute(db,
          "UPDATE units SET accepted = (SELECT id FROM results WHERE unit = units.id AND claim = ? AND outcome = "
          "'accepted' AND kept "
          "ORDER BY id LIMIT 1) WHERE id = ? AND accepted IS NULL",
          decided->first, unit.id);
  close_check(core, db, unit.id, all_agree ? "passed" : "failed");
}

bool expire_checks(Core& core, Db& db, const std::string& job, bool job_finished) {
  const int64_t now = core.clock.now();
  Statement rows = query(
      db,
      "SELECT u.id, u.round + ?1 <= j.rounds_done, j.last_round_closed FROM checks c CROSS JOIN units u ON u.id = "
      "c.unit JOIN jobs j ON j.name = u.job WHERE c.state = 'open' AND u.job = ?2 AND u.accepted IS NOT NULL AND NOT "
      "EXISTS (SELECT 1 FROM leases l WHERE l.unit = u.id AND l.replay AND " LEASE_LIVES("l", "?3") ")",
      settlement_rounds, job, now);
  std::vector<int64_t> ended;
  while (rows.executeStep()) {
    const int64_t unit = rows.getColumn(0).getInt64();
    const bool is_old = rows.getColumn(1).getInt() != 0;
    const bool patience_over = job_finished && rows.getColumn(2).getInt64() + patience_s < now;
    const bool disputed = accounts_by_claim(read_claims(db, unit)).size() >= 2;
    if (!job_finished && (disputed || !is_old)) continue;
    if (patience_over || !someone_could_check(core, db, unit)) ended.push_back(unit);
  }
  for (const int64_t unit : ended) expire_check(core, db, unit);
  return !ended.empty();
}

// No third account came: where answers differ nobody is proved wrong, and nobody is paid.
void expire_check(Core& core, Db& db, int64_t unit) {
  const std::vector<Claim> claims = read_claims(db, unit);
  if (accounts_by_claim(claims).size() >= 2) {
    for (const Claim& claim : claims)
      void_result(core, db, claim.result, "answers differ and no third account decided");
  }
  close_check(core, db, unit, "expired");
}

void end_checks(Core& core, Db& db, const std::string& job) {
  Statement rows = query(
      db, "SELECT u.id FROM checks c CROSS JOIN units u ON u.id = c.unit WHERE c.state = 'open' AND u.job = ?", job);
  std::vector<int64_t> open;
  while (rows.executeStep()) open.push_back(rows.getColumn(0).getInt64());
  for (const int64_t unit : open) expire_check(core, db, unit);
}

}  // namespace pool
