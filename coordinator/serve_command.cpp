// `gradpool serve`: the pool on the network until a signal.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "api.h"
#include "background.h"
#include "command_line.h"
#include "errors.h"
#include "files.h"
#include "http_server.h"
#include "logging.h"
#include "metrics.h"
#include "migrations.h"
#include "pool.h"
#include "status_page.h"

namespace pool {
namespace {

namespace fs = std::filesystem;

struct ServeOptions {
  std::string listen, status_listen = "127.0.0.1:9180";
  TlsFiles tls;
  fs::path config;
  bool json = false, status_public = false;
  size_t workers = 4;
  HttpLimits http;
  ApiLimits api;
};

std::string reason() { return std::generic_category().message(errno); }

// Fills in what the command line left open. Its keys are the flags' names without dashes.
void read_config(const fs::path& file, CLI::App& command) {
  const auto refuse = [&](const std::string& what) {
    throw Failure(ExitCode::bad_input, "-c " + file.string() + ": " + what);
  };
  std::ifstream stream(file);
  if (!stream) refuse(reason());
  const auto config = nlohmann::json::parse(stream, nullptr, false);
  if (!config.is_object()) refuse("not a JSON object");
  for (const auto& [key, value] : config.items()) {
    CLI::Option* option = key == "config" || key == "help" ? nullptr : command.get_option_no_throw("--" + key);
    if (option == nullptr) refuse("unknown key \"" + key + "\"; the keys are the flags of `gradpool serve --help`");
    if (option->count() > 0) continue;  // the command line goes first
    if (value.is_structured() || value.is_null()) refuse("\"" + key + "\" is neither text, number, true nor false");
    try {
      option->add_result(value.is_string() ? value.get<std::string>() : value.dump());
      option->run_callback();
    } catch (const CLI::Error& error) {
      refuse("\"" + key + "\": " + error.what());
    }
  }
}

void check(const ServeOptions& options) {
  const auto require = [](bool given, const char* flag) {
    if (!given) throw Failure(ExitCode::usage, std::string("serve needs ") + flag + " (or its key in the file of -c)");
  };
  require(!options.listen.empty(), "--listen HOST:PORT");
  require(!options.tls.certificate.empty(), "--certificate PEM");
  require(!options.tls.private_key.empty(), "--private-key PEM");
  if (!options.status_public && !is_loopback(split_address(options.status_listen).first)) {
    throw Failure(ExitCode::bad_input, "--status-listen " + options.status_listen +
                                           " would show the page and metrics, without TLS or password, beyond this "
                                           "machine; give --status-public if that is meant");
  }
}

// One serving process per folder. The lock ends with the process.
class ServeLock {
 public:
  explicit ServeLock(const fs::path& data) {
    make_directories(data);
    descriptor_ = open((data / "serve.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (descriptor_ < 0) throw Failure(ExitCode::store, "--data " + data.string() + ": " + reason());
    if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      close(descriptor_);
      throw Failure(ExitCode::store, "--data " + data.string() + " is served already by another gradpool (see " +
                                         (data / "serve.json").string() + "); stop it, or use another folder");
    }
  }
  ~ServeLock() { close(descriptor_); }
  ServeLock(const ServeLock&) = delete;
  ServeLock& operator=(const ServeLock&) = delete;

 private:
  int descriptor_ = -1;
};

// DATA/serve.json, for those who wait until the pool is ready; atomically, and removed at a clean stop.
class ReadyFile {
 public:
  ReadyFile(const fs::path& data, const std::string& url, const std::string& status_url) : file_(data / "serve.json") {
    const fs::path temporary = data / "serve.json.tmp";
    std::ofstream stream(temporary);
    stream << nlohmann::ordered_json{{"url", url}, {"status_url", status_url}, {"pid", getpid()}}.dump() << std::endl;
    stream.close();
    std::error_code error;
    if (stream) fs::rename(temporary, file_, error);
    if (!stream || error) {
      throw Failure(ExitCode::store, file_.string() + ": cannot be written: " + (error ? error.message() : reason()));
    }
  }
  ~ReadyFile() { remove(); }
  ReadyFile(const ReadyFile&) = delete;
  ReadyFile& operator=(const ReadyFile&) = delete;

  void remove() {
    std::error_code ignored;
    fs::remove(file_, ignored);
  }

 private:
  const fs::path file_;
};

// Before anything is served: an older store is brought up to date, and what the open rounds need must be there.
void bring_up_to_date(const fs::path& data) {
  if (const auto copy = migrate_folder(data)) {
    log_event(spdlog::level::warn, "the store was brought up to date", {{"copy_of_the_old_database", copy->string()}});
  }
}
void check(Pool& pool) {
  const auto begin = std::chrono::steady_clock::now();
  const StoreCheck found = pool.check_store();
  for (const std::string& what : found.repairs) log_event(spdlog::level::warn, "repaired", {{"what", what}});
  for (const std::string& what : found.warnings) {
    log_event(spdlog::level::err, "lost; put it back from a backup's blobs/", {{"what", what}});
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  log_event(spdlog::level::info, "store checked",
            {{"files", found.files},
             {"files_read", found.files_read},
             {"bytes_read", found.bytes_read},
             {"seconds", std::round(seconds.count() * 1000) / 1000}});
}

// The protocol of sd_notify(3): one datagram to the socket that systemd names.
void notify_systemd(const std::string& state) {
  const char* name = std::getenv("NOTIFY_SOCKET");  // NOLINT(concurrency-mt-unsafe): nobody sets variables
  if (name == nullptr) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t length = std::strlen(name);
  if (length >= sizeof(address.sun_path)) return;
  std::memcpy(address.sun_path, name, length);
  if (name[0] == '@') address.sun_path[0] = '\0';  // the abstract namespace
  const int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return;
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  if (sendto(descriptor, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&address), size) < 0) {
    log_event(spdlog::level::warn, "cannot notify systemd", {{"socket", name}, {"reason", reason()}});
  }
  close(descriptor);
}

// Two descriptors a connection at most.
void raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

std::string url(const char* scheme, const std::string& address, uint16_t port) {
  return scheme + address.substr(0, address.rfind(':') + 1) + std::to_string(port);
}

void serve(const ServeOptions& options, const fs::path& data) {
  check(options);
  set_up_logging(options.json);
  raise_file_limit();
  const ServeLock lock(data);
  bring_up_to_date(data);
  Pool pool(data, system_clock());
  check(pool);
  Background background(pool, system_clock());
  Metrics metrics;
  Api api(pool, system_clock(), background, metrics, options.api);
  HttpServer server(options.workers);
  StatusPage page(background, metrics, server);

  HttpLimits status_limits = options.http;
  status_limits.max_connections = 64;
  status_limits.max_bytes_in_memory *= 2;  // the page shows a pool whose rigs take all that they may
  const uint16_t port = server.listen(options.listen, options.http, options.tls, api);
  const uint16_t status_port = server.listen(options.status_listen, status_limits, std::nullopt, page);
  const std::string api_url = url("https://", options.listen, port);
  const std::string status_url = url("http://", options.status_listen, status_port);
  ReadyFile ready(data, api_url, status_url);
  log_event(spdlog::level::info, "serving",
            {{"url", api_url},
             {"status", status_url},
             {"data", data.string()},
             {"pool_id", protocol::to_hex(pool.pool_id())}});
  notify_systemd("READY=1");

  server.run();
  if (!background.stop(std::chrono::milliseconds(800))) {
    // A stop must not wait for a large round. Closing one is safe to cut off anywhere, so the next start repeats it.
    log_event(spdlog::level::warn, "stopped while a round was being closed; the next start closes it");
    ready.remove();
    std::_Exit(static_cast<int>(ExitCode::ok));
  }
  log_event(spdlog::level::info, "stopped");
}

std::string not_positive(const std::string& text) {
  double value = 0;
  return CLI::detail::lexical_cast(text, value) && value > 0 ? "" : "must be a number above 0, not " + text;
}

}  // namespace

void add_serve_command(CLI::App& app, const GlobalOptions& global) {
  auto options = std::make_shared<ServeOptions>();
  CLI::App* command = app.add_subcommand("serve", "Serve rigs over HTTPS, and the status page on loopback");
  command->add_option("--listen", options->listen, "HOST:PORT of the API; port 0 is any free one");
  command->add_option("--certificate", options->tls.certificate, "PEM chain, leaf first; read again on SIGHUP");
  command->add_option("--private-key", options->tls.private_key, "PEM key of the certificate, unencrypted");
  command->add_option("--status-listen", options->status_listen, "HOST:PORT of page, /metrics and /healthz")
      ->capture_default_str();
  command->add_flag("--status-public", options->status_public, "Allow --status-listen beyond this machine");
  command->add_flag("--json", options->json, "Log one JSON object per line");
  command->add_option("-c,--config", options->config, "JSON file with these flags' names as keys");
  const auto add_limit = [&](const char* name, auto& value, const char* help) {
    command->add_option(name, value, help)->capture_default_str()->check(not_positive)->group("Limits");
  };
  add_limit("--workers", options->workers, "Threads for requests");
  add_limit("--max-connections", options->http.max_connections, "Connections");
  add_limit("--max-connections-per-address", options->http.max_connections_per_address, "Connections of one address");
  add_limit("--max-queue", options->http.max_queue, "Requests waiting or worked on");
  add_limit("--requests-per-key", options->api.per_key, "Signed requests a second of one rig");
  add_limit("--requests-per-address", options->api.per_address, "Requests a second of one address");
  add_limit("--timeout", options->http.header_seconds, "Seconds for a TLS handshake, and for a request's header");
  for (CLI::Option* option : command->get_options()) option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  command->callback([command, options, &global] {
    if (!options->config.empty()) read_config(options->config, *command);
    options->http.handshake_seconds = options->http.header_seconds;
    serve(*options, global.data);
  });
}

}  // namespace pool
