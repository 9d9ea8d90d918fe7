#include "log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <ctime>

#include "protocol/json.h"

namespace agent {
namespace {

const char* name_of(Level level) {
  switch (level) {
    case Level::warning:
      return "warning";
    case Level::error:
      return "error";
    default:
      return "info";
  }
}

// spdlog's levels carry the colours.
spdlog::level::level_enum spdlog_level(Level level) {
  switch (level) {
    case Level::info:
      return spdlog::level::debug;
    case Level::good:
      return spdlog::level::info;
    case Level::warning:
      return spdlog::level::warn;
    case Level::error:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

spdlog::sink_ptr stdout_sink(bool colours) {
  if (!colours) return std::make_shared<spdlog::sinks::stdout_sink_mt>();
  auto sink = std::make_shared<spdlog::sinks::stdout_color_sink_mt>();
  sink->set_color(spdlog::level::debug, "");
  sink->set_color(spdlog::level::info, sink->green);
  return sink;
}

}  // namespace

Log::Log(bool json, bool colours)
    : json_(json), logger_(std::make_shared<spdlog::logger>("gradminer", stdout_sink(colours && !json))) {
  set_up();
}

Log::Log(spdlog::sink_ptr sink, bool json)
    : json_(json), logger_(std::make_shared<spdlog::logger>("gradminer", std::move(sink))) {
  set_up();
}

void Log::set_up() {
  logger_->set_level(spdlog::level::trace);
  logger_->flush_on(spdlog::level::trace);
  logger_->set_pattern(json_ ? "%v" : "[%Y-%m-%d %H:%M:%S] %^%v%$");
}

void Log::write(Level level, const char* event, const std::string& message, const nlohmann::ordered_json& fields) {
  if (!json_) {
    logger_->log(spdlog_level(level), "{}", printable(message));
    return;
  }
  nlohmann::ordered_json line{
      {"time", std::time(nullptr)}, {"level", name_of(level)}, {"event", event}, {"message", message}};
  for (const auto& [key, value] : fields.items()) line[key] = value;
  logger_->log(spdlog_level(level), "{}", line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

std::string printable(const std::string& text) { return protocol::printable(text, 500); }

}  // namespace agent
