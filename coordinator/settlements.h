// Pay after acceptance: escrow goes to the account, or back to the job, with a signed record of which.
#pragma once

#include "core.h"

namespace pool {

constexpr uint64_t settlement_rounds = 8;  // the window of checks

// Pays a result's price into escrow: from the job or, where its money is used up by checks, from the treasury.
void escrow_pay(Core& core, Db& db, const std::string& job, int64_t result, const std::string& account, uint64_t price);
// Settles the job's escrowed results of rounds up to and including `last_round` that no open check concerns.
void settle_results(Core& core, Db& db, const std::string& job, uint64_t last_round);
// Takes a result's pay back (nothing where none is in escrow); its claim counts no more.
void void_result(Core& core, Db& db, int64_t result, const std::string& reason);

std::vector<protocol::SignedDocument> settlements_after(Core& core, const protocol::PublicKey& rig, uint64_t after);

}  // namespace pool
