// What can be done about a file that is lost, that is missing or damaged. Each but the one that says so is one
// transaction.
#pragma once

#include "core.h"

namespace pool {

// Makes the weights of a round again, from an older checkpoint and the updates since. False where some of those are
// lost too, or do not lead to that digest.
bool rebuild_weights(Core& core, const Job& job, uint64_t round, const protocol::Digest& digest);

// Opens the unit of an open round again whose accepted result is lost. Who computed it keeps receipt and pay; the
// treasury gives the job back what it paid, because the file was the pool's to keep.
void reopen_unit(Core& core, int64_t unit);

// Keeps no longer what others can stand in for: a checkpoint that is not the newest, an update (rigs get a checkpoint),
// or results that are not of an open round (checks compare digests).
void give_up_checkpoint(Core& core, const std::string& job, uint64_t round);
void give_up_update(Core& core, const std::string& job, uint64_t round);
void give_up_results(Core& core, const protocol::Digest& digest);

// Ends what needs weights of a job that no kept files lead to any more: open checks expire, open evaluations go. Says
// of each what was done. Inside the caller's transaction.
std::vector<std::string> give_up_work(Core& core, Db& db, const std::string& job);

// Removes files that no row refers to, as a crash between a file's renaming and its transaction's end leaves them.
// Returns how many.
uint64_t remove_unlisted_blobs(Core& core);

}  // namespace pool
