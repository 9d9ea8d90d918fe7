// How the pool stands, for people: page, metrics, command line.
#pragma once

#include "core.h"

namespace pool {

PoolStatus pool_status(Core& core);
std::vector<JobStatus> list_jobs(Core& core);
JobStatus job_status(Core& core, const std::string& job);  // throws Failure(not_found)

}  // namespace pool
