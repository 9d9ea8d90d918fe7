#include "logging.h"

#include <spdlog/formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <ctime>
#include <string>

namespace pool {
namespace {

constexpr auto escape = nlohmann::json::error_handler_t::replace;  // of bytes that are not UTF-8
bool json_lines = false;

std::string iso_time(spdlog::log_clock::time_point time) {
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
  const time_t seconds = milliseconds / 1000;
  tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  const size_t length = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
  snprintf(text + length, sizeof(text) - length, ".%03dZ", static_cast<int>(milliseconds % 1000));
  return text;
}

// A payload is either an object of log_event() or plain text (anything that logs through spdlog directly).
class JsonLines : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    const std::string_view payload(message.payload.data(), message.payload.size());
    nlohmann::ordered_json line{{"time", iso_time(message.time)},
                                {"level", spdlog::level::to_string_view(message.level).data()}};
    const auto fields = nlohmann::ordered_json::parse(payload, nullptr, false);
    if (fields.is_object()) {
      line.update(fields);
    } else {
      line["event"] = payload;
    }
    const std::string text = line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override { return std::make_unique<JsonLines>(); }
};

// Bare where that is unambiguous, quoted and escaped otherwise.
std::string text_of(const nlohmann::ordered_json& value) {
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  const std::string quoted = value.dump(-1, ' ', false, escape);
  if (!value.is_string()) return quoted;
  const std::string inner = quoted.substr(1, quoted.size() - 2);
  return inner.empty() || inner.find_first_of(" =\\") != std::string::npos ? quoted : inner;
}

}  // namespace

void set_up_logging(bool json) {
  json_lines = json;
  auto logger = std::make_shared<spdlog::logger>("gradpool", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  if (json) {
    logger->set_formatter(std::make_unique<JsonLines>());
  } else {
    logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %-7l %v");
  }
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
}

void log_event(spdlog::level::level_enum level, std::string_view event, const nlohmann::ordered_json& fields) {
  if (json_lines) {
    nlohmann::ordered_json line{{"event", event}};
    line.update(fields);
    spdlog::log(level, line.dump(-1, ' ', false, escape));
    return;
  }
  std::string line(event);
  for (const auto& [name, value] : fields.items())
    line += (name == fields.begin().key() ? "  " : " ") + name + "=" + text_of(value);
  spdlog::log(level, line);
}

}  // namespace pool
