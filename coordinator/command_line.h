// The command line of `gradpool`: one function per group of commands, each in its own file. A command's callback
// throws Failure for what a person can mend; main() turns it into a message and an exit code.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>

namespace pool {

class Core;

struct GlobalOptions {
  std::filesystem::path data;  // --data, set before a command's callback runs
};

// The pool's store; where `make` is not set, one that exists already (a mistyped --data is no new pool).
Core open_core(const GlobalOptions& options, bool make);

void add_account_commands(CLI::App& app, const GlobalOptions& options);
void add_rig_commands(CLI::App& app, const GlobalOptions& options);
void add_dataset_commands(CLI::App& app, const GlobalOptions& options);
void add_job_commands(CLI::App& app, const GlobalOptions& options);
void add_ledger_commands(CLI::App& app, const GlobalOptions& options);
void add_backup_commands(CLI::App& app, const GlobalOptions& options);  // backup, restore
void add_serve_command(CLI::App& app, const GlobalOptions& options);    // serve_command.cpp

}  // namespace pool
