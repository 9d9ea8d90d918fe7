#include "submissions.h"

#include "accounts.h"
#include "admission.h"
#include "checks.h"
#include "settlements.h"
#include "units.h"
#include "uploads.h"

namespace pool {
namespace {

using protocol::Error;
using protocol::ErrorCode;
using protocol::Outcome;

const char* name_of(Outcome outcome) {
  return outcome == Outcome::accepted ? "accepted" : outcome == Outcome::superseded ? "superseded" : "diverged";
}

// What two rigs must agree on.
protocol::Digest claim_of(const protocol::Submission& s) {
  return s.diverged ? protocol::sha256("diverged\n" + s.tensor + "\n" + std::to_string(s.step)) : s.result.digest;
}

struct Claimed {  // the unit that a submission is for, and how it stands
  UnitRow unit;
  bool replay = false;
  bool wanted = false;
};

std::optional<protocol::SignedDocument> stored_receipt(Db& db, const RigIdentity& rig, int64_t unit,
                                                       const protocol::Submission& submission) {
  Statement row = query(db, "SELECT claim, receipt, signature FROM results WHERE unit = ? AND attempt = ? AND key = ?",
                        unit, submission.attempt, rig.key);
  if (!row.executeStep()) return std::nullopt;
  if (bytes_at(row, 0) != claim_of(submission)) {
    throw Error(ErrorCode::result_conflict, "attempt " + std::to_string(submission.attempt) + " at " + submission.unit +
                                                " was submitted with another result before");
  }
  return protocol::SignedDocument{text_at(row, 1), bytes_at<64>(row, 2)};
}

Claimed find_claimed(Db& db, const RigIdentity& rig, const UnitRow& unit, const protocol::Submission& submission) {
  Statement row = query(db, "SELECT replay FROM leases WHERE id = ? AND key = ? AND unit = ? AND attempt = ?",
                        submission.lease, rig.key, unit.id, submission.attempt);
  if (!row.executeStep()) {
    throw Error(ErrorCode::lease_unknown, "this rig has no lease " + submission.lease + " for attempt " +
                                              std::to_string(submission.attempt) + " at " + submission.unit);
  }
  const bool replay = row.getColumn(0).getInt() != 0;
  return {unit, replay, is_wanted(db, unit, replay, rig.account)};
}

UnitRow require_unit(Db& db, const std::string& name) {
  std::optional<UnitRow> unit = find_unit(db, name);
  if (!unit) throw Error(ErrorCode::lease_unknown, "this pool has no unit " + name);
  return *unit;
}

void count_rejection(Core& core, const RigIdentity& rig, const protocol::Submission& submission,
                     const std::string& job) {
  core.store.write([&](Db& db) {
    execute(db, "UPDATE rigs SET rejected = rejected + 1 WHERE key = ?", rig.key);
    execute(db, "UPDATE jobs SET rejected = rejected + 1 WHERE name = ?", job);
    execute(db, "UPDATE leases SET state = 'refused', ended = ? WHERE id = ? AND state = 'held'", core.clock.now(),
            submission.lease);
  });
}

// A submission in work. Repeated meanwhile it would find its upload claimed: the pool would seem to hold nothing, and
// then to take nothing any more. So it waits for the receipt.
class InWork {
 public:
  InWork(Core& core, const protocol::PublicKey& key, const protocol::Digest& digest)
      : core_(core), result_(key, digest) {
    const std::lock_guard<std::mutex> lock(core_.submissions_mutex);
    if (!core_.submissions.insert(result_).second) {
      throw Error(ErrorCode::overloaded, "this result is being admitted; submit it again for its receipt");
    }
  }
  ~InWork() {
    const std::lock_guard<std::mutex> lock(core_.submissions_mutex);
    core_.submissions.erase(result_);
  }
  InWork(const InWork&) = delete;
  InWork& operator=(const InWork&) = delete;

 private:
  Core& core_;
  const std::pair<protocol::PublicKey, protocol::Digest> result_;
};

struct Admitted {
  StagedFile blob;
  float norm = 0;
};

// The uploaded blob: whole, under its right name, valid and synced. Runs outside any transaction.
Admitted admit_upload(Core& core, const RigIdentity& rig, const UnitRow& unit, const protocol::Submission& submission) {
  std::optional<StagedFile> file = claim_upload(core, rig.key, submission.result);
  if (!file) {
    throw Error(ErrorCode::blob_missing,
                "the pool holds " + std::to_string(held_bytes(core, rig.key, submission.result.digest)) + " of " +
                    std::to_string(submission.result.bytes) + " bytes of this result; upload the rest");
  }
  const MappedFile blob(file->path());
  if (protocol::sha256(blob.bytes()) != submission.result.digest) {
    throw Error(ErrorCode::blob_digest_mismatch, "the uploaded bytes do not have this digest; upload them again");
  }
  const std::shared_ptr<const Job> job = core.store.read([&](Db& db) { return core.job(db, unit.job); });
  const auto ops = kernels::make_cpu_ops(1);
  const float norm = admit_result(*job, unit, submission, blob.bytes(), *ops);
  sync_file(file->path());
  return {std::move(*file), norm};
}

protocol::SignedDocument make_receipt(Core& core, const RigIdentity& rig, const UnitRow& unit,
                                      const protocol::Submission& submission, Outcome outcome, uint64_t price) {
  protocol::Receipt receipt;
  receipt.pool_id = core.pool_id;
  receipt.job = unit.job;
  receipt.unit = unit.name;
  receipt.account = rig.account;
  receipt.round = unit.round;
  receipt.attempt = submission.attempt;
  receipt.tokens = unit.tokens;
  receipt.price = price;
  receipt.rig = rig.key;
  receipt.result = submission.diverged ? protocol::sha256(std::string_view()) : submission.result.digest;
  receipt.segments_root = submission.diverged ? protocol::sha256(std::string_view()) : submission.segments_root;
  receipt.outcome = outcome;
  receipt.time = core.clock.now();
  return core.sign(protocol::to_canonical(receipt));
}

// A second rig found the same numeric failure at the same place: the job's fault, not the rig's.
void pause_if_diverged(Db& db, const RigIdentity& rig, const UnitRow& unit, const protocol::Submission& submission) {
  if (integer(db, 0,
              "SELECT count(*) FROM results WHERE unit = ? AND digest IS NULL AND claim = ? AND key <> ? AND pay <> "
              "'voided'",
              unit.id, claim_of(submission), rig.key) == 0) {
    return;
  }
  execute(
      db,
      "UPDATE jobs SET state = 'diverged', detail = ? WHERE name = ? AND state IN ('running', 'paused', 'unfunded')",
      "two rigs report a numeric failure of " + unit.name + " in " + submission.tensor + " at step " +
          std::to_string(submission.step) + "; try a lower learning rate",
      unit.job);
}

protocol::SignedDocument insert_result(Core& core, Db& db, const RigIdentity& rig, const Claimed& claimed,
                                       const protocol::Submission& submission,
                                       const protocol::VerifiedRequest& evidence, std::string_view body,
                                       Admitted* admitted) {
  const UnitRow& unit = claimed.unit;
  const Outcome outcome = !claimed.wanted       ? Outcome::superseded
                          : submission.diverged ? Outcome::diverged
                                                : Outcome::accepted;
  const bool accepted = outcome == Outcome::accepted;
  const uint64_t price = accepted ? unit.price : 0;
  const protocol::SignedDocument receipt = make_receipt(core, rig, unit, submission, outcome, price);
  std::optional<protocol::Digest> digest, segments_root;
  if (!submission.diverged) {
    digest = submission.result.digest;
    segments_root = submission.segments_root;
  }
  if (accepted) core.store.publish(db, admitted->blob);
  execute(db,
          "INSERT INTO results (unit, attempt, key, account, outcome, claim, digest, segments_root, loss, norm, "
          "tokens, price, pay, "
          "submitted, receipt, signature, evidence_base, evidence_signature, evidence_body, kept) "
          "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
          unit.id, submission.attempt, rig.key, rig.account, name_of(outcome), claim_of(submission), digest,
          segments_root, submission.loss, accepted ? admitted->norm : 0.0f, unit.tokens, price,
          accepted ? "escrowed" : "none", core.clock.now(), receipt.document, receipt.signature, evidence.base,
          evidence.signature, std::string(body), accepted);
  const int64_t result = db.getLastInsertRowid();
  execute(db, "UPDATE leases SET state = 'submitted', ended = ? WHERE id = ?", core.clock.now(), submission.lease);

  UnitRow now = unit;
  if (accepted) {
    escrow_pay(core, db, unit.job, result, rig.account, price);
    if (submission.seconds > 0) {
      execute(db, "UPDATE rigs SET tokens_per_second = ? WHERE key = ?",
              static_cast<double>(unit.tokens) / submission.seconds, rig.key);
    }
    if (!unit.accepted) {
      execute(db, "UPDATE units SET accepted = ? WHERE id = ?", result, unit.id);
      now.accepted = result;
      draw_check(core, db, *core.job(db, unit.job), unit, rig.key);
    }
  }
  if (submission.diverged) pause_if_diverged(db, rig, unit, submission);
  compare_claims(core, db, now);
  return receipt;
}

}  // namespace

protocol::SignedDocument submit(Core& core, const RigIdentity& rig, const protocol::Submission& submission,
                                const protocol::VerifiedRequest& evidence, std::string_view body) {
  std::optional<InWork> in_work;
  if (!submission.diverged) in_work.emplace(core, rig.key, submission.result.digest);
  Claimed claimed;
  if (auto receipt = core.store.read([&](Db& db) {
        const UnitRow unit = require_unit(db, submission.unit);
        auto stored = stored_receipt(db, rig, unit.id, submission);
        if (!stored) claimed = find_claimed(db, rig, unit, submission);
        return stored;
      })) {
    return *receipt;
  }

  std::optional<Admitted> admitted;
  if (claimed.wanted && !submission.diverged) {
    try {
      admitted.emplace(admit_upload(core, rig, claimed.unit, submission));
    } catch (const Error& error) {
      if (error.code == ErrorCode::bad_result) count_rejection(core, rig, submission, claimed.unit.job);
      throw;
    }
  }

  // Between reading and now another rig may have been first, this very submission may have come twice, or the rig may
  // have been revoked or barred.
  const auto record = [&](Db& db) {
    const UnitRow unit = require_unit(db, submission.unit);
    if (auto stored = stored_receipt(db, rig, unit.id, submission)) return *stored;
    require_active_rig(db, rig.key);
    Claimed current = find_claimed(db, rig, unit, submission);
    if (current.wanted && !submission.diverged && !admitted) {
      throw Error(ErrorCode::overloaded, "the unit was opened again meanwhile; submit once more");
    }
    return insert_result(core, db, rig, current, submission, evidence, body, admitted ? &*admitted : nullptr);
  };
  protocol::SignedDocument receipt;
  try {
    receipt = core.store.write(record);
  } catch (...) {
    if (admitted) return_upload(core, rig.key, admitted->blob);  // the rig need only submit again
    throw;
  }
  remove_upload(core, rig.key, submission.result.digest);
  return receipt;
}

}  // namespace pool
