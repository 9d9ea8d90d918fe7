// gradpool job create.
#pragma once

#include "command_line.h"

namespace pool {

void add_job_create_command(CLI::App& job, const GlobalOptions& options);

}  // namespace pool
