// A copy of the whole pool while it serves: a folder that `gradpool --data` opens.
#pragma once

#include "core.h"

namespace pool {

struct BackupResult {
  uint64_t blobs = 0, bytes = 0;
};
// out must be missing or empty. Every blob's digest is checked on the way.
BackupResult back_up(Core& core, const std::filesystem::path& out);

}  // namespace pool
