// What a job keeps: results of 8 rounds, the last 3 checkpoints and one in 50, updates since the oldest kept
// checkpoint. Records, receipts and the ledger stay for ever.
#pragma once

#include "core.h"

namespace pool {

// After round `closed` was closed. Drops references; Store::collect_garbage() then removes the files.
void retire_files(Db& db, const std::string& job, uint64_t closed);

// Removes nonces that no valid signature can carry any more, uploads that nothing waits for, and unreferenced blobs.
void tidy(Core& core);

}  // namespace pool
