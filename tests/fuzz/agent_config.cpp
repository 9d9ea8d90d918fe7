// Any text as the agent's configuration file: Failure(input) is the only way out, what is accepted obeys
// docs/gradminer.md, and written again it means the same.
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "config.h"
#include "exit.h"
#include "memory_file.h"
#include "protocol/json.h"
#include "url.h"

namespace {

using agent::Config;
using nlohmann::json;

json to_json(const Config& config) {
  json pools = json::array();
  for (const agent::PoolConfig& pool : config.pools) {
    pools.push_back({{"url", pool.url},
                     {"user", pool.user},
                     {"pass", pool.pass},
                     {"rig-id", pool.rig_id},
                     {"ca", pool.ca},
                     {"pin", pool.pin},
                     {"enabled", pool.enabled}});
  }
  const agent::Limits& limits = config.limits;
  return {{"pools", pools},
          {"data", config.data.string()},
          {"threads", config.threads},
          {"retry-pause", config.retry_pause},
          {"json", config.json},
          {"colors", config.colors},
          {"cache-limit-mb", config.cache_limit_mb},
          {"outbox-limit-mb", config.outbox_limit_mb},
          {"disk-reserve-mb", config.disk_reserve_mb},
          {"limits",
           {{"parameters", limits.parameters},
            {"memory-mb", limits.memory_mb},
            {"tokens", limits.tokens},
            {"steps", limits.steps},
            {"batch", limits.batch},
            {"context", limits.context},
            {"download-mb", limits.download_mb},
            {"result-mb", limits.result_mb},
            {"seconds", limits.seconds}}}};
}

void check_bounds(const Config& config) {
  if (!(config.retry_pause > 0 && config.retry_pause <= 300)) std::abort();
  for (const uint64_t megabytes : {config.cache_limit_mb, config.outbox_limit_mb, config.disk_reserve_mb,
                                   config.limits.memory_mb, config.limits.download_mb, config.limits.result_mb}) {
    if (megabytes > UINT64_MAX / 2 / agent::megabyte) std::abort();
  }
}

// Ready to run.
void check_complete(const Config& config) {
  if (config.pools.empty() || config.threads > 1024 || config.data.empty()) std::abort();
  for (const agent::PoolConfig& pool : config.pools) {
    if (!pool.enabled || !protocol::is_name(pool.user) || !protocol::is_name(pool.rig_id) || pool.pass.empty() ||
        (!pool.pin.empty() && pool.pin.size() != 64)) {
      std::abort();
    }
    const agent::Url url = agent::parse_pool_url(pool.url);
    if (!url.text.starts_with("https://") || url.host.empty() || url.port == 0) std::abort();
    if (agent::parse_pool_url(url.text).authority != url.authority) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Config config;
  try {
    config = agent::read_config(memory_file(data, size));
  } catch (const agent::Failure& failure) {
    if (failure.code != agent::Exit::input) std::abort();
    return 0;
  }
  check_bounds(config);
  const json written = to_json(config);
  const std::string text = written.dump();
  if (text.size() <= protocol::max_json_bytes &&
      to_json(agent::read_config(memory_file(reinterpret_cast<const uint8_t*>(text.data()), text.size()))) != written) {
    std::abort();
  }
  for (agent::PoolConfig& pool : config.pools) pool.ca.clear();  // no file of this machine is opened
  try {
    complete_and_check(config);
  } catch (const agent::Failure& failure) {
    if (failure.code != agent::Exit::input) std::abort();
    return 0;
  }
  check_complete(config);
  return 0;
}
