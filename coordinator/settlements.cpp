#include "settlements.h"

#include <algorithm>

#include "ledger.h"

namespace pool {
namespace {

struct PaidResult {
  int64_t id = 0;
  std::string job, unit, account, receipt;
  uint64_t attempt = 0, price = 0;
  protocol::PublicKey key{};
};

#define PAID_RESULT                                                                                                \
  "SELECT r.id, u.job, u.name, r.account, r.receipt, r.attempt, r.price, r.key FROM results r CROSS JOIN units u " \
  "ON u.id = r.unit WHERE r.pay = 'escrowed' AND "

std::vector<PaidResult> read_all(Statement rows) {
  std::vector<PaidResult> results;
  while (rows.executeStep()) {
    results.push_back({rows.getColumn(0).getInt64(), text_at(rows, 1), text_at(rows, 2), text_at(rows, 3),
                       text_at(rows, 4), number_at(rows, 5), number_at(rows, 6), bytes_at(rows, 7)});
  }
  return results;
}

void record(Core& core, Db& db, const PaidResult& result, bool settled, const std::string& reason) {
  protocol::Settlement settlement;
  settlement.pool_id = core.pool_id;
  // Above what the pool gave out after the backup that it went on from: fewer than a thousand settlements a second.
  settlement.sequence =
      1 + static_cast<uint64_t>(std::max(integer(db, 0, "SELECT seq FROM sqlite_sequence WHERE name = 'settlements'"),
                                         integer(db, 0, "SELECT 1000 * restored FROM pool")));
  settlement.attempt = result.attempt;
  settlement.amount = result.price;
  settlement.receipt = protocol::sha256(result.receipt);
  settlement.account = result.account;
  settlement.unit = result.unit;
  settlement.reason = reason;
  settlement.rig = result.key;
  settlement.settled = settled;
  settlement.time = core.clock.now();
  const protocol::SignedDocument document = core.sign(protocol::to_canonical(settlement));
  execute(db, "INSERT INTO settlements VALUES (?, ?, ?, ?, ?)", settlement.sequence, result.key, result.id,
          document.document, document.signature);
  execute(db, "UPDATE results SET pay = ? WHERE id = ?", settled ? "settled" : "voided", result.id);
}

}  // namespace

void escrow_pay(Core& core, Db& db, const std::string& job, int64_t result, const std::string& account,
                uint64_t price) {
  const std::string job_account = ledger::job_account(job);
  const bool funded = ledger::balance(db, job_account) >= static_cast<int64_t>(price);
  ledger::move(db, "accept:" + std::to_string(result), core.clock.now(), funded ? job_account : ledger::treasury,
               ledger::escrow_account(account), price);
}

// By the index of what is escrowed, then sorted (+): in the order of their numbers all results would be read.
void settle_results(Core& core, Db& db, const std::string& job, uint64_t last_round) {
  for (const PaidResult& result :
       read_all(query(db,
                      PAID_RESULT "u.job = ? AND u.round <= ? AND NOT EXISTS (SELECT 1 FROM checks c "
                                  "WHERE c.unit = u.id AND c.state = 'open') ORDER BY +r.id",
                      job, last_round))) {
    ledger::move(db, "settle:" + std::to_string(result.id), core.clock.now(), ledger::escrow_account(result.account),
                 ledger::account_of(result.account), result.price);
    record(core, db, result, true, "accepted");
  }
}

void void_result(Core& core, Db& db, int64_t id, const std::string& reason) {
  for (const PaidResult& result : read_all(query(db, PAID_RESULT "r.id = ?", id))) {
    ledger::move(db, "void:" + std::to_string(id), core.clock.now(), ledger::escrow_account(result.account),
                 ledger::job_account(result.job), result.price);
    record(core, db, result, false, reason);
  }
  execute(db, "UPDATE results SET pay = 'voided' WHERE id = ? AND pay = 'none'", id);
}

std::vector<protocol::SignedDocument> settlements_after(Core& core, const protocol::PublicKey& rig, uint64_t after) {
  return core.store.read([&](Db& db) {
    Statement rows = query(
        db, "SELECT document, signature FROM settlements WHERE key = ? AND sequence > ? ORDER BY sequence LIMIT 500",
        rig, after);
    std::vector<protocol::SignedDocument> documents;
    while (rows.executeStep()) documents.push_back({text_at(rows, 0), bytes_at<64>(rows, 1)});
    return documents;
  });
}

}  // namespace pool
