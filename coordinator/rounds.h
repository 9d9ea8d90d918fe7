// The life of a round: opened when its units are funded, closed when all of them are accepted.
#pragma once

#include <optional>

#include "core.h"

namespace pool {

// The round that is open, always the newest one.
std::optional<uint64_t> open_round(Db& db, const std::string& job);

// Opens the job's next round, or the final evaluation, where none is open; else says why not in the job's state.
// Returns whether anything changed.
bool open_next_round(Core& core, Db& db, const Job& job);

// Rounds after which the job ends or, where its owner asked for that, pauses.
uint64_t rounds_wanted(Db& db, const Job& job);

// Where all train units of the open round are accepted: aggregates them and publishes update, weights and record.
// Deterministic and published by one transaction, so a crash at any point only means doing it again.
bool close_round(Core& core, const std::string& job);

// Ends a job: settles what is left, gives the rest of the budget back.
void finish_job(Core& core, Db& db, const std::string& job, const std::string& state, const std::string& detail);
// Ends (or pauses) a job whose wanted rounds, evaluations and checks are all done. Returns whether it did.
bool complete_if_done(Core& core, Db& db, const Job& job);

}  // namespace pool
