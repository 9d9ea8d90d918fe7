#include "ledger.h"

#include <stdexcept>

namespace pool::ledger {

void move(Db& db, const std::string& idempotency_key, int64_t time, const std::string& from, const std::string& to,
          uint64_t amount) {
  if (amount == 0) return;
  if (amount > INT64_MAX / 4)
    throw std::overflow_error("an amount of " + std::to_string(amount) + " is beyond the books");
  if (integer(db, 0, "SELECT count(*) FROM ledger_transactions WHERE idempotency_key = ?", idempotency_key)) return;
  const int64_t id = integer(db, 0, "SELECT max(id) FROM ledger_transactions") + 1;
  constexpr const char* post = "INSERT INTO ledger_postings (transaction_id, account, amount) VALUES (?, ?, ?)";
  execute(db, post, id, from, -static_cast<int64_t>(amount));
  execute(db, post, id, to, static_cast<int64_t>(amount));
  execute(db, "INSERT INTO ledger_transactions VALUES (?, ?, ?)", id, idempotency_key, time);  // checks the sum
}

int64_t balance(Db& db, const std::string& account) {
  return integer(db, 0, "SELECT amount FROM ledger_balances WHERE account = ?", account);
}

std::vector<Entry> entries(Db& db, const std::string& account) {
  Statement rows = query(db,
                         "SELECT t.id, t.time, p.amount, t.idempotency_key, p.account FROM ledger_postings p "
                         "JOIN ledger_transactions t ON t.id = p.transaction_id "
                         "WHERE ?1 = '' OR p.account = ?1 ORDER BY p.id",
                         account);
  std::vector<Entry> entries;
  while (rows.executeStep()) {
    entries.push_back({rows.getColumn(0).getInt64(), rows.getColumn(1).getInt64(), rows.getColumn(2).getInt64(),
                       text_at(rows, 3), text_at(rows, 4)});
  }
  return entries;
}

std::vector<Balance> balances(Db& db) {
  Statement rows(db, "SELECT account, amount FROM ledger_balances ORDER BY account");
  std::vector<Balance> balances;
  while (rows.executeStep()) balances.push_back({text_at(rows, 0), rows.getColumn(1).getInt64()});
  return balances;
}

}  // namespace pool::ledger
