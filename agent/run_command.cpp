#include "run_command.h"

#include <algorithm>
#include <cstdio>

#include "data_folder.h"
#include "engine.h"
#include "http_client.h"
#include "run_loop.h"
#include "signals.h"
#include "system_info.h"

namespace agent {
namespace {

// The value for pool number i: the only or last one for a single pool, one for all, or one each.
std::string value_for(const std::vector<std::string>& values, size_t i, size_t pools, const char* flag) {
  if (values.empty()) return "";
  if (pools == 1) return values.back();
  if (values.size() == 1) return values.front();
  if (values.size() == pools) return values[i];
  throw Failure(Exit::usage, std::string(flag) + " is given " + std::to_string(values.size()) + " times for " +
                                 std::to_string(pools) + " pools (-o); give it once, or once for each");
}

void require_room(const Config& config) {
  const uint64_t free = disk_free(config.data), needed = config.disk_reserve_mb * 1'000'000;
  if (free >= needed) return;
  throw Failure(Exit::disk,
                "the disk of " + config.data.string() + " is full: " + human_bytes(static_cast<double>(free)) +
                    " free, at least " + human_bytes(static_cast<double>(needed)) +
                    " are kept free (disk-reserve-mb); free some space, or move the data folder with --data");
}

}  // namespace

Config make_config(const RunOptions& options) {
  Config config;
  if (!options.config.empty()) config = read_config(options.config);
  const size_t pools = options.urls.size();
  if (pools == 0 && config.pools.empty()) {
    throw Failure(Exit::usage, "no pool; give its address with -o https://HOST:PORT, or list it under \"pools\" in a " +
                                   std::string("file for -c"));
  }
  if (pools > 0) {
    config.pools.clear();
  } else if (!options.users.empty() || !options.passes.empty() || !options.rig_ids.empty() || !options.cas.empty() ||
             !options.pins.empty()) {
    throw Failure(Exit::usage, "-u, -p, --rig-id, --ca and --pin go with -o; for the file's pools, set them there");
  }
  for (size_t i = 0; i < pools; ++i) {
    PoolConfig pool;
    pool.url = options.urls[i];
    pool.user = value_for(options.users, i, pools, "-u");
    pool.pass = value_for(options.passes, i, pools, "-p");
    pool.rig_id = value_for(options.rig_ids, i, pools, "--rig-id");
    pool.ca = value_for(options.cas, i, pools, "--ca");
    pool.pin = value_for(options.pins, i, pools, "--pin");
    config.pools.push_back(pool);
  }
  if (!options.data.empty()) config.data = options.data;
  if (options.threads) config.threads = *options.threads;
  if (options.cuda_devices) config.cuda_devices = parse_cuda_devices(*options.cuda_devices);
  if (options.cuda_timeout) config.cuda_timeout = *options.cuda_timeout;
  if (options.health_print_time) config.health_print_time = *options.health_print_time;
  if (const auto limit = options.memory_limit) {
    config.limits.memory_mb = *limit == 0 ? 0 : std::max(*limit / 1'000'000, uint64_t{1});
  }
  config.json = config.json || options.json;
  config.colors = config.colors && !options.no_color;
  complete_and_check(config);
  return config;
}

void run_command(const RunOptions& options) {
  const Config config = make_config(options);
  Stop stop;
  Signals signals(stop);
  Log log(config.json, config.colors);
  const DataFolder data(config.data);
  require_room(config);
  const RigKeys keys = load_or_make_keys(data.path());
  SystemClock clock(stop);
  Surroundings world{clock, stop, log,
                     [&](const PoolConfig& pool) -> std::unique_ptr<Transport> {
                       return std::make_unique<HttpClient>(parse_pool_url(pool.url), TlsTrust{pool.ca, pool.pin}, stop);
                     },
                     [&] { return make_engine(config.threads); }};
  log.write(Level::info, "start",
            "gradminer " GRADMINER_VERSION ", data in " + data.path().string() + ", rig key " +
                protocol::to_hex(keys.current.public_key()).substr(0, 16) + "…",
            {{"version", GRADMINER_VERSION}, {"key", protocol::to_hex(keys.current.public_key())}});
  world.cards = rig_cards(config, log);
  if (config.health_print_time > 0) {
    world.open_sensors = [&] { return kernels::open_card_sensors(std::chrono::seconds(config.cuda_timeout)); };
    world.seconds_between_health = static_cast<double>(config.health_print_time);
  }
  try {
    RunLoop(config, keys, options.units, world).run();
  } catch (const Failure& failure) {
    if (config.json) {
      log.write(Level::error, "end", failure.what(), {{"exit_code", static_cast<int>(failure.code)}});
    }
    throw;
  }
  log.write(Level::info, "end", stop.requested() ? "stopped" : "done", {{"exit_code", 0}});
}

void check_config_command(const RunOptions& options) {
  const Config config = make_config(options);
  for (const PoolConfig& pool : config.pools) {
    std::printf("pool    %s as %s/%s%s\n", pool.url.c_str(), pool.user.c_str(), pool.rig_id.c_str(),
                pool.pin.empty() ? "" : ", pinned");
  }
  std::printf("data    %s\n", config.data.c_str());
  std::printf("threads %llu\n", static_cast<unsigned long long>(config.threads == 0 ? usable_cores() : config.threads));
  if (config.cuda_devices) {
    std::string names;
    for (const uint64_t number : *config.cuda_devices) names += (names.empty() ? "" : ", ") + device_name(number);
    std::printf("cards   %s\n", names.empty() ? "none" : names.c_str());
  }
  std::puts("the configuration is good");
}

}  // namespace agent
