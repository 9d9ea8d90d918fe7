#include "config.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <sstream>

#include "exit.h"
#include "protocol/error.h"
#include "protocol/json.h"
#include "url.h"

namespace agent {
namespace {

using Json = nlohmann::json;

constexpr uint64_t max_megabytes = 1'000'000'000'000;  // in bytes, it and all that is added to it fit into 64 bits

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

// One object of the file: each key with what takes its value. Setters throw std::invalid_argument with what is
// expected.
class Section {
 public:
  using Setter = std::function<void(const Json&)>;
  Section(std::string file, std::string path) : file_(std::move(file)), path_(std::move(path)) {}

  Section& text(const char* key, std::string& out) {
    return add(key, [&out](const Json& value) {
      if (!value.is_string()) throw std::invalid_argument("a string");
      out = value.get<std::string>();
    });
  }
  Section& flag(const char* key, bool& out) {
    return add(key, [&out](const Json& value) {
      if (!value.is_boolean()) throw std::invalid_argument("true or false");
      out = value.get<bool>();
    });
  }
  Section& number(const char* key, uint64_t& out) {
    return add(key, [&out](const Json& value) {
      if (!value.is_number_unsigned()) throw std::invalid_argument("a whole number, 0 or more");
      out = value.get<uint64_t>();
    });
  }
  Section& megabytes(const char* key, uint64_t& out) {
    return add(key, [&out](const Json& value) {
      if (!value.is_number_unsigned() || value.get<uint64_t>() > max_megabytes) {
        throw std::invalid_argument("a whole number, at most 10^12");
      }
      out = value.get<uint64_t>();
    });
  }
  Section& add(const char* key, Setter setter) {
    setters_[key] = std::move(setter);
    return *this;
  }

  void read(const Json& object) const {
    if (!object.is_object()) fail((path_.empty() ? "the file" : path_) + " must be an object in braces");
    for (const auto& [key, value] : object.items()) {
      if (!setters_.contains(key)) fail("unknown key \"" + name(key) + "\"; " + suggestion(key));
    }
    for (const auto& [key, value] : object.items()) {
      try {
        setters_.at(key)(value);
      } catch (const std::invalid_argument& expected) {
        fail("\"" + name(key) + "\" must be " + expected.what() + ", not " + value.dump());
      }
    }
  }

 private:
  std::string name(const std::string& key) const { return path_.empty() ? key : path_ + "." + key; }

  std::string suggestion(const std::string& key) const {
    std::string nearest, all;
    for (const auto& [known, setter] : setters_) {
      all += (all.empty() ? "" : ", ") + known;
      if (nearest.empty() || edit_distance(key, known) < edit_distance(key, nearest)) nearest = known;
    }
    const bool close = edit_distance(key, nearest) <= std::max<size_t>(2, nearest.size() / 3);
    return (close ? "did you mean \"" + nearest + "\"? Known keys: " : "known keys: ") + all;
  }

  [[noreturn]] void fail(const std::string& message) const { throw Failure(Exit::input, file_ + ": " + message); }

  std::string file_, path_;
  std::map<std::string, Setter> setters_;
};

PoolConfig read_pool(const std::string& file, size_t index, const Json& object) {
  PoolConfig pool;
  Section(file, "pools[" + std::to_string(index) + "]")
      .text("url", pool.url)
      .text("user", pool.user)
      .text("pass", pool.pass)
      .text("rig-id", pool.rig_id)
      .text("ca", pool.ca)
      .text("pin", pool.pin)
      .flag("enabled", pool.enabled)
      .read(object);
  return pool;
}

void read_limits(const std::string& file, const Json& object, Limits& limits) {
  Section(file, "limits")
      .number("parameters", limits.parameters)
      .megabytes("memory-mb", limits.memory_mb)
      .number("tokens", limits.tokens)
      .number("steps", limits.steps)
      .number("batch", limits.batch)
      .number("context", limits.context)
      .megabytes("download-mb", limits.download_mb)
      .megabytes("result-mb", limits.result_mb)
      .number("seconds", limits.seconds)
      .read(object);
}

// The host's name with what a rig's name may not hold replaced.
std::string host_rig_id() {
  char host[65] = "";
  if (gethostname(host, sizeof host - 1) != 0) return "rig";
  std::string name(host);
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '_' && c != '-') c = '-';
  }
  return protocol::is_name(name) ? name : "rig";
}

void require(bool ok, const std::string& message) {
  if (!ok) throw Failure(Exit::input, message);
}

void complete_and_check(PoolConfig& pool) {
  parse_pool_url(pool.url);
  const std::string where = "pool " + pool.url + ": ";
  require(!pool.user.empty(), where + "no account; give the account's name with -u (\"user\")");
  require(protocol::is_name(pool.user), where + "account \"" + pool.user +
                                            "\" is not a name (letters, digits, '.', '_', '-', at most 64, the first "
                                            "a letter or digit)");
  require(!pool.pass.empty(), where + "no token; give the account's enrolment token with -p (\"pass\")");
  if (pool.rig_id.empty()) pool.rig_id = host_rig_id();
  require(protocol::is_name(pool.rig_id), where + "rig name \"" + pool.rig_id +
                                              "\" is not a name (letters, digits, '.', '_', '-', at most 64, the "
                                              "first a letter or digit)");
  if (!pool.ca.empty()) {
    require(std::ifstream(pool.ca).good(), where + "--ca " + pool.ca + " cannot be read");
  }
  if (!pool.pin.empty()) {
    std::transform(pool.pin.begin(), pool.pin.end(), pool.pin.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const bool hex = pool.pin.find_first_not_of("0123456789abcdef") == std::string::npos;
    require(hex && pool.pin.size() == 64,
            where + "--pin must be the SHA-256 of the server's public key: 64 hex digits");
  }
}

}  // namespace

Config read_config(const std::filesystem::path& file) {
  const std::string name = file.string();
  std::ifstream in(file, std::ios::binary);
  if (!in || std::filesystem::is_directory(file))
    throw Failure(Exit::input, "cannot read the configuration file " + name);
  std::ostringstream text;
  text << in.rdbuf();
  Json root;
  try {
    root = protocol::parse_object(text.str());
  } catch (const protocol::Error& error) {
    throw Failure(Exit::input, name + ": " + error.what());
  }
  Config config;
  std::string data;
  Section(name, "")
      .add("pools",
           [&](const Json& pools) {
             if (!pools.is_array()) throw std::invalid_argument("a list of pools");
             for (const Json& pool : pools) config.pools.push_back(read_pool(name, config.pools.size(), pool));
           })
      .add("limits", [&](const Json& limits) { read_limits(name, limits, config.limits); })
      .add("retry-pause",
           [&](const Json& value) {
             if (!value.is_number() || !(value.get<double>() > 0) || value.get<double>() > 300) {
               throw std::invalid_argument("seconds, above 0 and at most 300");
             }
             config.retry_pause = value.get<double>();
           })
      .text("data", data)
      .number("threads", config.threads)
      .add("cuda-devices",
           [&](const Json& value) {
             const auto is_number = [](const Json& number) { return number.is_number_unsigned(); };
             if (!value.is_array() || !std::all_of(value.begin(), value.end(), is_number)) {
               throw std::invalid_argument("a list of numbers as `gradminer devices` shows them");
             }
             config.cuda_devices = value.get<std::vector<uint64_t>>();
           })
      .number("cuda-timeout", config.cuda_timeout)
      .number("health-print-time", config.health_print_time)
      .flag("json", config.json)
      .flag("colors", config.colors)
      .megabytes("cache-limit-mb", config.cache_limit_mb)
      .megabytes("outbox-limit-mb", config.outbox_limit_mb)
      .megabytes("disk-reserve-mb", config.disk_reserve_mb)
      .read(root);
  config.data = data;
  return config;
}

std::vector<uint64_t> parse_cuda_devices(const std::string& list) {
  std::vector<uint64_t> numbers;
  if (list == "none") return numbers;
  const char* at = list.data();
  const char* const end = at + list.size();
  for (;;) {
    uint64_t number = 0;
    const auto [after, error] = std::from_chars(at, end, number);
    if (error != std::errc() || (after != end && *after != ',')) {
      throw Failure(Exit::usage, "--cuda-devices " + list +
                                     ": must be numbers as `gradminer devices` shows them, like 0,2, or none");
    }
    numbers.push_back(number);
    if (after == end) return numbers;
    at = after + 1;
  }
}

void complete_and_check(Config& config) {
  std::erase_if(config.pools, [](const PoolConfig& pool) { return !pool.enabled; });
  require(!config.pools.empty(),
          "no pool; give its address with -o https://HOST:PORT, or list it under \"pools\" in a file for -c");
  for (PoolConfig& pool : config.pools) complete_and_check(pool);
  require(config.threads <= 1024, "--threads " + std::to_string(config.threads) + ": at most 1024");
  require(config.cuda_timeout >= 1 && config.cuda_timeout <= 3600,
          "--cuda-timeout " + std::to_string(config.cuda_timeout) + ": 1 to 3600 seconds");
  require(config.health_print_time <= 3600,
          "--health-print-time " + std::to_string(config.health_print_time) + ": at most 3600 seconds");
  if (config.data.empty()) config.data = default_data_folder();
}

std::filesystem::path default_data_folder() {
  auto variable = [](const char* name) {
    const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody sets variables
    return std::filesystem::path(value == nullptr ? "" : value);
  };
  if (!variable("STATE_DIRECTORY").empty()) return variable("STATE_DIRECTORY");
  if (!variable("XDG_DATA_HOME").empty()) return variable("XDG_DATA_HOME") / "gradminer";
  if (!variable("HOME").empty()) return variable("HOME") / ".local/share/gradminer";
  throw Failure(Exit::input, "neither HOME nor STATE_DIRECTORY is set; give the data folder with --data");
}

}  // namespace agent
