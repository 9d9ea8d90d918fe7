// A copy of the whole pool: `gradpool backup` while it serves, and the way back, `gradpool restore`.
#pragma once

#include "core.h"

namespace pool {

struct CopyResult {
  uint64_t blobs = 0, bytes = 0;
};
// Both: `to` must be missing or empty, every blob's digest is checked on the way, and the copy is a backup (column
// pool.restored in schema.sql) until somebody opens it. An interrupted copy cannot be opened. Throw Failure.
CopyResult back_up(Core& core, const std::filesystem::path& to);
// `from` is only read. A backup of an older version is brought up to date in the copy.
CopyResult restore(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace pool
