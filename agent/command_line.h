// The command line of gradminer: options, help, and exit codes of exceptions.
#pragma once

namespace agent {

// Runs one command and returns the process's exit code. Writes results to stdout and errors to stderr.
int run_command_line(int argc, char** argv);

}  // namespace agent
