#include "accounts.h"

#include <charconv>

#include "errors.h"
#include "ledger.h"
#include "protocol/json.h"

namespace pool {

using protocol::Error;
using protocol::ErrorCode;

const char* const minimum_agent = "0.1.0";

namespace {

constexpr int64_t nonce_memory_s = protocol::max_skew_s;  // beyond a signature's end

// Fields of "X.Y.Z" compared as numbers; what follows them counts for nothing.
std::array<uint32_t, 3> parse_version(const std::string& text) {
  std::array<uint32_t, 3> version{};
  const char *at = text.data(), *end = at + text.size();
  for (size_t i = 0; i < version.size(); ++i) {
    const bool separated = i == 0 || (at != end && *at++ == '.');
    const auto [stop, failure] = std::from_chars(at, end, version[i]);
    if (!separated || failure != std::errc()) throw Error(ErrorCode::bad_member, "agent must be NAME/X.Y.Z");
    at = stop;
  }
  return version;
}

void take_nonce(Db& db, const protocol::VerifiedRequest& request) {
  if (execute(db, "INSERT OR IGNORE INTO nonces VALUES (?, ?, ?)", request.key, request.nonce,
              request.expires + nonce_memory_s) == 0) {
    throw Error(ErrorCode::nonce_replayed, "this request was received before");
  }
}

void require_active(const std::string& state, const std::string& reason) {
  if (state == "active") return;
  throw Error(ErrorCode::key_revoked, "this rig's key is " + state + (reason.empty() ? "" : ": " + reason));
}

void require_token(Db& db, const protocol::Enrolment& enrolment) {
  Statement row = query(db, "SELECT token_hash FROM accounts WHERE name = ?", enrolment.account);
  if (!row.executeStep()) {
    throw Error(ErrorCode::account_unknown, "this pool has no account named " + enrolment.account);
  }
  // Hashes are compared, so the time says nothing about the token.
  if (bytes_at(row, 0) != protocol::sha256(enrolment.token)) {
    throw Error(ErrorCode::token_wrong, "the token is not the one of account " + enrolment.account);
  }
}

// The old key signs the new one in, and retires.
void replace_key(Core& core, Db& db, const protocol::PublicKey& key, const protocol::Enrolment& enrolment) {
  const protocol::PreviousKey& previous = *enrolment.previous;
  Statement row = query(db, "SELECT account, state, reason FROM rigs WHERE key = ?", previous.key);
  if (!row.executeStep() || text_at(row, 0) != enrolment.account) {
    throw Error(ErrorCode::unknown_key, "the previous key is not enrolled for account " + enrolment.account);
  }
  require_active(text_at(row, 1), text_at(row, 2));
  if (!protocol::verify(previous.key, protocol::rotation_message(core.pool_id, key), previous.signature)) {
    throw Error(ErrorCode::signature_invalid, "the previous key did not sign the new one");
  }
  stop_rig(db, previous.key, "revoked", "replaced by " + protocol::to_hex(key), core.clock.now());
}

}  // namespace

void require_recent_agent(const std::string& agent) {
  const size_t slash = agent.find('/');
  if (slash == std::string::npos) throw Error(ErrorCode::bad_member, "agent must be NAME/X.Y.Z");
  if (parse_version(agent.substr(slash + 1)) < parse_version(minimum_agent)) {
    throw Error(ErrorCode::agent_too_old,
                agent + " is too old for this pool, which serves agents from " + minimum_agent + "; please upgrade");
  }
}

std::string create_account(Core& core, const std::string& name) {
  if (!protocol::is_name(name)) {
    throw Failure(ExitCode::bad_input, "\"" + name +
                                           "\" is not an account name: 1 to 64 letters, digits, '.', '_' or '-', "
                                           "beginning with a letter or digit");
  }
  const std::string token = protocol::random_hex16();
  core.store.write([&](Db& db) {
    if (execute(db, "INSERT OR IGNORE INTO accounts VALUES (?, ?, ?)", name, protocol::sha256(token),
                core.clock.now()) == 0) {
      throw Failure(ExitCode::refused, "the account " + name + " exists already");
    }
  });
  return token;
}

std::vector<Account> list_accounts(Core& core) {
  return core.store.read([](Db& db) {
    Statement rows(db,
                   "SELECT name, created, (SELECT count(*) FROM rigs WHERE account = name) FROM accounts "
                   "ORDER BY name");
    std::vector<Account> accounts;
    while (rows.executeStep()) {
      Account account{text_at(rows, 0), rows.getColumn(1).getInt64(), number_at(rows, 2)};
      account.earned = ledger::balance(db, ledger::account_of(account.name));
      account.in_escrow = ledger::balance(db, ledger::escrow_account(account.name));
      accounts.push_back(std::move(account));
    }
    return accounts;
  });
}

std::vector<RigStatus> list_rigs(Db& db) {
  Statement rows(
      db,
      "SELECT key, rig_id, account, agent, state, reason, enrolled, last_seen, tokens_per_second, rejected, "
      "(SELECT count(*) FROM results r WHERE r.key = rigs.key AND outcome = 'accepted' AND pay <> 'voided'), "
      "(SELECT coalesce(sum(price), 0) FROM results r WHERE r.key = rigs.key AND pay IN ('escrowed', 'settled')) "
      "FROM rigs ORDER BY account, rig_id, key");
  std::vector<RigStatus> rigs;
  while (rows.executeStep()) {
    RigStatus rig;
    rig.identity = {bytes_at(rows, 0), text_at(rows, 1), text_at(rows, 2)};
    rig.agent = text_at(rows, 3);
    rig.state = text_at(rows, 4);
    rig.reason = text_at(rows, 5);
    rig.enrolled = rows.getColumn(6).getInt64();
    rig.last_seen = rows.getColumn(7).getInt64();
    rig.tokens_per_second = rows.getColumn(8).getDouble();
    rig.rejected = number_at(rows, 9);
    rig.accepted = number_at(rows, 10);
    rig.earned = number_at(rows, 11);
    rigs.push_back(std::move(rig));
  }
  return rigs;
}

void stop_rig(Db& db, const protocol::PublicKey& key, const char* state, const std::string& reason, int64_t now) {
  execute(db, "UPDATE rigs SET state = ?, reason = ? WHERE key = ?", state, reason, key);
  execute(db, "UPDATE leases SET state = 'released', ended = ? WHERE key = ? AND state = 'held'", now, key);
}

RigStatus revoke_rig(Core& core, const std::string& key_or_rig_id) {
  return core.store.write([&](Db& db) {
    std::vector<RigStatus> found;
    for (RigStatus& rig : list_rigs(db)) {
      if (protocol::to_hex(rig.identity.key) == key_or_rig_id || rig.identity.rig_id == key_or_rig_id) {
        found.push_back(std::move(rig));
      }
    }
    if (found.empty())
      throw Failure(ExitCode::not_found, "no rig has the key or rig id " + key_or_rig_id + "; see gradpool rig list");
    if (found.size() > 1) {
      std::string message = "several rigs are named " + key_or_rig_id + "; give the key of one:";
      for (const RigStatus& rig : found)
        message += "\n  " + protocol::to_hex(rig.identity.key) + "  " + rig.identity.account;
      throw Failure(ExitCode::refused, message);
    }
    if (found[0].state != "active") {
      throw Failure(ExitCode::refused, "the rig " + key_or_rig_id + " is " + found[0].state + " already");
    }
    found[0].state = "revoked";
    found[0].reason = "by the pool's operator";
    stop_rig(db, found[0].identity.key, "revoked", found[0].reason, core.clock.now());
    return found[0];
  });
}

void enrol(Core& core, const protocol::VerifiedRequest& request, const protocol::Enrolment& enrolment) {
  require_recent_agent(enrolment.agent);
  if (!protocol::is_name(enrolment.rig_id)) throw Error(ErrorCode::bad_member, "rig_id is not a valid name");
  core.store.write([&](Db& db) {
    take_nonce(db, request);
    require_token(db, enrolment);
    Statement row = query(db, "SELECT account, state, reason FROM rigs WHERE key = ?", request.key);
    const int64_t now = core.clock.now();
    if (row.executeStep()) {
      if (text_at(row, 0) != enrolment.account) {
        throw Error(ErrorCode::key_taken,
                    "this key is enrolled for another account; make a new one (gradminer keygen)");
      }
      require_active(text_at(row, 1), text_at(row, 2));
      execute(db, "UPDATE rigs SET rig_id = ?, agent = ?, last_seen = ? WHERE key = ?", enrolment.rig_id,
              enrolment.agent, now, request.key);
      return;
    }
    if (enrolment.previous) replace_key(core, db, request.key, enrolment);
    execute(db, "INSERT INTO rigs (key, rig_id, account, agent, enrolled, last_seen) VALUES (?, ?, ?, ?, ?, ?)",
            request.key, enrolment.rig_id, enrolment.account, enrolment.agent, now, now);
  });
}

// Not synced by itself: what the request changes is committed after its nonce, so neither is kept without the nonce.
RigIdentity admit(Core& core, const protocol::VerifiedRequest& request) {
  return core.store.write_unsynced([&](Db& db) {
    Statement row = query(db, "SELECT rig_id, account, state, reason FROM rigs WHERE key = ?", request.key);
    if (!row.executeStep()) {
      throw Error(ErrorCode::unknown_key,
                  "this rig's key is not enrolled here; enrol it with an account and its token");
    }
    require_active(text_at(row, 2), text_at(row, 3));
    take_nonce(db, request);
    execute(db, "UPDATE rigs SET last_seen = ? WHERE key = ?", core.clock.now(), request.key);
    return RigIdentity{request.key, text_at(row, 0), text_at(row, 1)};
  });
}

void require_active_rig(Db& db, const protocol::PublicKey& key) {
  Statement row = query(db, "SELECT state, reason FROM rigs WHERE key = ?", key);
  row.executeStep();
  require_active(text_at(row, 0), text_at(row, 1));
}

}  // namespace pool
