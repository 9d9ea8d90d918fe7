// What a user configures: a JSON file with the keys that miners know, and flags that go before it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace agent {

struct PoolConfig {
  std::string url, user, pass, rig_id;
  std::string ca;   // file; empty: the system's trust store
  std::string pin;  // SHA-256 of the server's SubjectPublicKeyInfo, hex; empty: none
  bool enabled = true;
};

constexpr uint64_t megabyte = 1'000'000;  // of the limits in MB

// What a unit may ask of this rig, docs/gradminer.md.
struct Limits {
  uint64_t parameters = 2'000'000'000;
  uint64_t memory_mb = 0;  // planned buffers; 0: what is available
  uint64_t tokens = 100'000'000;
  uint64_t steps = 10'000;
  uint64_t batch = 65'536;
  uint64_t context = 65'536;
  uint64_t download_mb = 20'000;
  uint64_t result_mb = 8'000;
  uint64_t seconds = 86'400;  // estimated
};

struct Config {
  std::vector<PoolConfig> pools;
  std::filesystem::path data;                         // empty: default_data_folder()
  uint64_t threads = 0;                               // 0: one per usable core
  std::optional<std::vector<uint64_t>> cuda_devices;  // numbers of cards; without: all; empty: none, the CPU computes
  uint64_t cuda_timeout = 60;                         // seconds
  uint64_t health_print_time = 60;                    // seconds between two lines of a card's sensors; 0: none
  double retry_pause = 1;                             // seconds before the first retry; doubles up to 5 minutes
  bool json = false, colors = true;
  uint64_t cache_limit_mb = 20'000, outbox_limit_mb = 2'000;
  uint64_t disk_reserve_mb = 100;  // left free on the data folder's disk
  Limits limits;
};

// Throws Failure(input) naming file, key and what is expected; an unknown key is refused with the nearest known one.
Config read_config(const std::filesystem::path& file);

// "0,2", or "none". Throws Failure(usage).
std::vector<uint64_t> parse_cuda_devices(const std::string& list);

// Checks everything that `run` needs, and fills in rig names (the host's). Throws Failure(input).
void complete_and_check(Config& config);

// $STATE_DIRECTORY, else $XDG_DATA_HOME/gradminer, else ~/.local/share/gradminer.
std::filesystem::path default_data_folder();

}  // namespace agent
