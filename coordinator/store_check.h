// What `gradpool serve` looks at before it serves: whether the store is whole, and every file there that unfinished
// jobs still need.
//
// Read whole are the database and what the next round is made of: the newest weights, the newest update, the state of
// the outer optimiser, the results of open rounds, the shards of unfinished jobs. Of all other files only name and size
// are looked at.
#pragma once

#include "core.h"

namespace pool {

// Repairs what can be made again. Throws Failure(store) that names everything else that an unfinished job needs, and
// what to do, and has given up nothing then. Only for the process that serves the folder, before it serves.
StoreCheck check_store(Core& core);

}  // namespace pool
