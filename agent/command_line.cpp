#include "command_line.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <system_error>

#include "compute_command.h"
#include "devices_command.h"
#include "earnings_command.h"
#include "exit.h"
#include "files.h"
#include "kernels/training.h"
#include "keygen_command.h"
#include "protocol/standard_files.h"
#include "run_command.h"
#include "sample_command.h"

namespace agent {
namespace {

// CLI11 would take -1 for 2^64 - 1, what is beyond that for the same, and 010 for 8.
std::string not_a_whole_number(const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool padded = text.size() > 1 && text[0] == '0';
  if (error == std::errc() && end == text.data() + text.size() && !padded) return "";
  return "must be a whole number from 0 to 2^64 - 1, not " + text;
}
const CLI::Validator whole_number(not_a_whole_number, "");

void add_compute(CLI::App& app, ComputeOptions& options) {
  CLI::App* command = app.add_subcommand("compute", "One gradient, offline, of a Hugging Face model folder");
  command->add_option("--model", options.model, "Folder with config.json and model.safetensors")->required();
  command->add_option("--tokens", options.tokens, "File of uint16 little-endian tokens")->required();
  command->add_option("--batch", options.batch, "Rows B; row b is tokens b*T to b*T+T inclusive")
      ->check(whole_number)
      ->required();
  command->add_option("--context", options.context, "Tokens a row T")->check(whole_number)->required();
  command
      ->add_option("--profile", options.profile,
                   "Numeric profile: " + kernels::profile_names(kernels::profiles_of_cards()))
      ->capture_default_str();
  command->add_option("--device", options.device, "cpu, cuda (the first card), cuda:0, …; see `gradminer devices`")
      ->capture_default_str();
  command->add_option("--threads", options.threads, "Threads; 0: one per core")
      ->check(whole_number)
      ->capture_default_str();
  command
      ->add_option("--memory-limit", options.memory_limit,
                   "Use at most this much memory (6G, 900MiB); 0, the default: what is free")
      ->transform(CLI::AsSizeValue(true))
      ->check(whole_number);
  command->add_option("--gradients", options.gradients, "Write the gradients to this safetensors file");
  command->add_flag("--json", options.json, "Print one JSON object");
  command->callback([&options] { compute_command(options); });
}

void add_sample(CLI::App& app, SampleOptions& options) {
  CLI::App* command = app.add_subcommand("sample", "Text from a checkpoint");
  command->add_option("--model", options.model, "Folder with config.json and model.safetensors")->required();
  command->add_option("--prompt", options.prompt, "Text to go on from (vocabularies of bytes)");
  command->add_option("--length", options.length, "Tokens to draw")->check(whole_number)->capture_default_str();
  command->add_option("--temperature", options.temperature, "0: always the likeliest token")->capture_default_str();
  command->add_option("--seed", options.seed, "Seed of the draws")->check(whole_number)->capture_default_str();
  command->add_option("--threads", options.threads, "Threads; 0: one per core")
      ->check(whole_number)
      ->capture_default_str();
  command->callback([&options] { sample_command(options); });
}

void add_devices(CLI::App& app, bool& json) {
  CLI::App* command = app.add_subcommand("devices", "What this machine can compute on, and its NVIDIA cards");
  command->add_flag("--json", json, "Print one JSON object");
  command->callback([&json] { devices_command(json); });
}

void add_run_options(CLI::App* command, RunOptions& options) {
  const auto last = CLI::MultiOptionPolicy::TakeLast;
  command->add_option("-o,--url", options.urls, "Pool, https://HOST:PORT; several are tried in order")
      ->allow_extra_args(false);
  command->add_option("-u,--user", options.users, "Account at the pool")->allow_extra_args(false);
  command->add_option("-p,--pass", options.passes, "The account's enrolment token")->allow_extra_args(false);
  command->add_option("--rig-id", options.rig_ids, "Name of this rig (default: the host's)")->allow_extra_args(false);
  command->add_option("--ca", options.cas, "Trust the CA certificates in this PEM file, not the system's")
      ->allow_extra_args(false);
  command->add_option("--pin", options.pins, "SHA-256 (hex) of the server's public key")->allow_extra_args(false);
  command->add_option("--threads", options.threads, "Threads; 0: one per core")
      ->check(whole_number)
      ->multi_option_policy(last);
  command
      ->add_option("--cuda-devices", options.cuda_devices,
                   "Cards as `devices` numbers them (0,2), or none; default: all")
      ->multi_option_policy(last);
  command
      ->add_option("--cuda-timeout", options.cuda_timeout,
                   "Seconds (default 60) after which a card that finishes nothing, or whose driver hangs, is left out")
      ->check(whole_number)
      ->multi_option_policy(last);
  command
      ->add_option("--health-print-time", options.health_print_time,
                   "Seconds (default 60) between two lines of what a card's sensors say; 0: none")
      ->check(whole_number)
      ->multi_option_policy(last);
  command
      ->add_option("--memory-limit", options.memory_limit,
                   "Memory for units (6G, 900MiB); 0, the default: what is free")
      ->transform(CLI::AsSizeValue(true))
      ->check(whole_number)
      ->multi_option_policy(last);
  command->add_option("-c,--config", options.config, "Configuration file (JSON)")->multi_option_policy(last);
  command->add_option("--data", options.data, "Data folder")->multi_option_policy(last);
  command->add_flag("--json", options.json, "Log one JSON object a line");
  command->add_flag("--no-color", options.no_color, "No colours");
}

void add_run(CLI::App& app, RunOptions& options) {
  CLI::App* command = app.add_subcommand("run", "Work for a pool");
  add_run_options(command, options);
  command->add_option("--units", options.units, "Stop after so many accepted units")->check(whole_number);
  command->callback([&options] { run_command(options); });
}

void add_check_config(CLI::App& app, RunOptions& options) {
  CLI::App* command = app.add_subcommand("check-config", "Check what `run` would be given, and do nothing");
  add_run_options(command, options);
  command->callback([&options] { check_config_command(options); });
}

struct DataOptions {
  std::filesystem::path data;
  bool json = false, change = false;
};

void add_keygen(CLI::App& app, DataOptions& options) {
  CLI::App* command = app.add_subcommand("keygen", "Make the rig's key if there is none, and print the public key");
  command->add_option("--data", options.data, "Data folder");
  command->add_flag("--change", options.change, "Make a new key, introduced to pools by the old one");
  command->callback([&options] { keygen_command(options.data, options.change); });
}

void add_earnings(CLI::App& app, DataOptions& options) {
  CLI::App* command = app.add_subcommand("earnings", "What this rig's receipts and settlements say");
  command->add_option("--data", options.data, "Data folder");
  command->add_flag("--json", options.json, "Print one JSON object");
  command->callback([&options] { earnings_command(options.data, options.json); });
}

int report(Exit exit_code, const std::string& message) {
  std::fflush(stdout);
  std::fprintf(stderr, "gradminer: %s\n", message.c_str());
  return static_cast<int>(exit_code);
}

// What a command printed may be in the buffer still. A result that is lost is no success.
void flush_output() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return;
  throw Failure(Exit::disk, "cannot write to standard output; it may be full or closed");
}

int guarded(const std::function<int()>& body) {
  try {
    return body();
  } catch (const Failure& error) {
    return report(error.code, error.what());
  } catch (const std::filesystem::filesystem_error& error) {
    return report(Exit::disk, error.what());
  } catch (const std::system_error& error) {
    const Failure failure = system_failure(error);
    return report(failure.code, failure.what());
  } catch (const kernels::NumericFailure& error) {
    return report(Exit::numeric, error.what());
  } catch (const std::bad_alloc&) {
    return report(Exit::unexpected, "out of memory");
  } catch (const std::exception& error) {
    return report(Exit::unexpected, error.what());
  }
}

}  // namespace

int run_command_line(int argc, char** argv) {
  CLI::App app("Computes training work units of language models for a pool, and is paid for them.", "gradminer");
  app.set_version_flag("--version,-V", "gradminer " GRADMINER_VERSION);
  app.require_subcommand(0, 1);  // checked below: an unknown command is better named than missed
  RunOptions run, check_config;
  ComputeOptions compute;
  SampleOptions sample;
  DataOptions keygen, earnings;
  bool devices_json = false;
  add_run(app, run);
  add_compute(app, compute);
  add_devices(app, devices_json);
  add_check_config(app, check_config);
  add_keygen(app, keygen);
  add_sample(app, sample);
  add_earnings(app, earnings);
  app.add_subcommand("version", "Print the version")->callback([] { std::puts("gradminer " GRADMINER_VERSION); });

  return guarded([&] {
    protocol::open_closed_standard_files();
    try {
      app.parse(argc, argv);
      if (app.get_subcommands().empty()) throw CLI::CallForHelp();
    } catch (const CLI::ParseError& error) {
      if (app.exit(error) != 0) return static_cast<int>(Exit::usage);
    }
    flush_output();
    return static_cast<int>(Exit::ok);
  });
}

}  // namespace agent
