// `gradminer run` and `check-config`: flags and file become a configuration, the configuration a running agent.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "config.h"

namespace agent {

// Flags as given. Lists of -u, -p, --rig-id, --ca and --pin hold one value for all -o, or one for each.
struct RunOptions {
  std::vector<std::string> urls, users, passes, rig_ids, cas, pins;
  std::filesystem::path config, data;
  std::optional<uint64_t> threads;
  std::optional<std::string> cuda_devices;
  std::optional<uint64_t> cuda_timeout, health_print_time;  // seconds
  std::optional<uint64_t> memory_limit;                     // bytes; 0: what is available
  uint64_t units = 0;
  bool json = false, no_color = false;
};

// The file, then the flags over it; checked. Throws Failure(usage) or Failure(input).
Config make_config(const RunOptions& options);

// Until a signal, or a Failure.
void run_command(const RunOptions& options);
void check_config_command(const RunOptions& options);

}  // namespace agent
