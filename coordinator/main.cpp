// gradpool: submission in, next model out.
#include <spdlog/spdlog.h>

#include <charconv>
#include <cstdio>
#include <filesystem>
#include <iostream>

#include "command_line.h"
#include "core.h"
#include "errors.h"
#include "protocol/error.h"
#include "protocol/standard_files.h"

pool::Core pool::open_core(const GlobalOptions& options, bool make) {
  if (!make && !std::filesystem::exists(options.data / "gradpool.db")) throw no_pool_in(options.data);
  return Core(options.data, system_clock(), make);
}

// CLI11 would say of an unknown command only that one is required; this way it names it.
static void name_unknown_commands(CLI::App& app) {
  if (app.get_require_subcommand_min() == 0) return;
  app.require_subcommand(0, 1);
  app.callback([&app] {
    if (app.get_subcommands().empty()) throw CLI::RequiredError("a command after " + app.get_name());
  });
  for (CLI::App* command : app.get_subcommands({})) name_unknown_commands(*command);
}

// CLI11 would take -1 for 2^64 - 1, what is beyond that for the same, and 010 for 8.
static std::string not_a_whole_number(const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool padded = text.size() > 1 && text[0] == '0';
  if (error == std::errc() && end == text.data() + text.size() && !padded) return "";
  return "must be a whole number from 0 to 2^64 - 1, not " + text;
}

static void check_whole_numbers(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    if (option->get_type_name() == "UINT") option->check(not_a_whole_number);
  }
  for (CLI::App* command : app.get_subcommands({})) check_whole_numbers(*command);
}

// What a command printed may be in the buffer still. A result that is lost, such as a token, is no success.
static void flush_output() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return;
  throw pool::Failure(pool::ExitCode::unexpected, "cannot write to standard output; it may be full or closed");
}

static pool::ExitCode run_command(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (app.exit(error) != 0) return pool::ExitCode::usage;
  }
  flush_output();
  return pool::ExitCode::ok;
}

int main(int argc, char** argv) {
  CLI::App app(
      "gradpool - a pool that trains models on rigs: hands out work, checks it, aggregates it, keeps the books",
      "gradpool");
  app.set_version_flag("--version", "gradpool " GRADMINER_VERSION);
  app.require_subcommand(1);
  pool::GlobalOptions options;
  options.data = "gradpool-data";
  app.add_option("--data", options.data, "Folder of the pool's store (default: $GRADPOOL_DATA, else ./gradpool-data)")
      ->envname("GRADPOOL_DATA");
  app.add_subcommand("version", "Print the version")->callback([] { std::cout << "gradpool " GRADMINER_VERSION "\n"; });
  pool::add_serve_command(app, options);
  pool::add_account_commands(app, options);
  pool::add_rig_commands(app, options);
  pool::add_dataset_commands(app, options);
  pool::add_job_commands(app, options);
  pool::add_ledger_commands(app, options);
  pool::add_backup_commands(app, options);
  name_unknown_commands(app);
  check_whole_numbers(app);

  const auto fail = [](const char* message, pool::ExitCode code) {
    std::cerr << "gradpool: " << message << '\n';
    return static_cast<int>(code);
  };
  try {
    protocol::open_closed_standard_files();
    return static_cast<int>(run_command(app, argc, argv));
  } catch (const pool::Failure& error) {
    return fail(error.what(), error.code);
  } catch (const protocol::Error& error) {
    return fail(error.what(),
                error.code == protocol::ErrorCode::not_found ? pool::ExitCode::not_found : pool::ExitCode::bad_input);
  } catch (const std::filesystem::filesystem_error& error) {
    return fail(error.what(), pool::ExitCode::store);
  } catch (const std::exception& error) {
    return fail(error.what(), pool::ExitCode::unexpected);
  }
}
