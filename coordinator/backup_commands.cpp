// gradpool backup, gradpool restore.
#include <iostream>
#include <memory>

#include "backup.h"
#include "command_line.h"
#include "core.h"
#include "table.h"

namespace pool {
namespace {

std::string describe(const CopyResult& copied) {
  return "the store, the pool's key and " + show_count(copied.blobs) + " files (" + show_bytes(copied.bytes) + ")";
}

void backup_command(const GlobalOptions& options, const std::string& out) {
  Core core = open_core(options, false);
  const CopyResult copied = back_up(core, out);
  std::cout << "backed up to " << out << ": " << describe(copied)
            << ". The way back is gradpool --data NEW restore --from " << out
            << "; keep it as private as the pool's own folder.\n";
}

void restore_command(const GlobalOptions& options, const std::string& from) {
  const CopyResult copied = restore(from, options.data);
  std::cout << "restored to " << options.data.string() << ": " << describe(copied)
            << ". Serve it only when nothing serves the old folder any more.\n";
}

}  // namespace

void add_backup_commands(CLI::App& app, const GlobalOptions& options) {
  const auto out = std::make_shared<std::string>(), from = std::make_shared<std::string>();
  CLI::App* backup = app.add_subcommand("backup", "Copy the pool's folder while it serves");
  backup->add_option("--out", *out, "A new folder")->required();
  backup->callback([&options, out] { backup_command(options, *out); });
  CLI::App* restore = app.add_subcommand("restore", "Make a new pool's folder (--data) from a backup");
  restore->add_option("--from", *from, "What gradpool backup made")->required();
  restore->callback([&options, from] { restore_command(options, *from); });
}

}  // namespace pool
