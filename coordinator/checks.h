// Checking by repetition: which units another account repeats, and what follows when answers differ (docs/security.md).
#pragma once

#include "core.h"
#include "units.h"

namespace pool {

// Draws, from the system's randomness and after the result is committed to, whether the unit is repeated.
void draw_check(Core& core, Db& db, const Job& job, const UnitRow& unit, const protocol::PublicKey& key);

// Compares all claims about a unit. Two equal claims of different accounts decide: a pending check closes, and keys
// that claimed otherwise are barred. Different claims without a decision open a check, so that a third account decides.
void compare_claims(Core& core, Db& db, const UnitRow& unit);

// Ends checks that nobody is there to do, so that pay and the job's end do not wait for ever. Returns whether any
// ended.
bool expire_checks(Core& core, Db& db, const std::string& job, bool job_finished);
// Ends all that are open: the job is over.
void end_checks(Core& core, Db& db, const std::string& job);
// Ends an open check undecided: where answers differ nobody is paid.
void expire_check(Core& core, Db& db, int64_t unit);

}  // namespace pool
