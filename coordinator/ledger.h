// The books: double entry in integer micro-credits. Accounts: treasury, job:NAME, escrow:ACCOUNT, account:ACCOUNT.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sql.h"

namespace pool::ledger {

inline const std::string treasury = "treasury";
inline std::string job_account(const std::string& job) { return "job:" + job; }
inline std::string escrow_account(const std::string& account) { return "escrow:" + account; }
inline std::string account_of(const std::string& account) { return "account:" + account; }

// Moves `amount` from one account to another, once: a repeated idempotency key changes nothing. Moving 0 posts nothing.
void move(Db& db, const std::string& idempotency_key, int64_t time, const std::string& from, const std::string& to,
          uint64_t amount);

int64_t balance(Db& db, const std::string& account);

struct Entry {
  int64_t transaction = 0, time = 0, amount = 0;
  std::string idempotency_key, account;
};
// Postings in order; of one account (any of the kinds above) or, where empty, all.
std::vector<Entry> entries(Db& db, const std::string& account);
struct Balance {
  std::string account;
  int64_t amount = 0;
};
std::vector<Balance> balances(Db& db);

}  // namespace pool::ledger
