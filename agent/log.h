// The agent's log on stdout: lines for people, or one JSON object a line.
#pragma once

#include <spdlog/spdlog.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

namespace agent {

enum class Level { info, good, warning, error };

// Thread-safe.
class Log {
 public:
  // Colours appear on terminals only, and only if `colours`.
  Log(bool json, bool colours);
  Log(spdlog::sink_ptr sink, bool json);  // for tests

  // event: a stable name for programs; message: for people; fields: further members of the JSON object.
  void write(Level level, const char* event, const std::string& message,
             const nlohmann::ordered_json& fields = nlohmann::ordered_json::object());

 private:
  void set_up();

  const bool json_;
  std::shared_ptr<spdlog::logger> logger_;
};

// Text of others made safe for a terminal and a log: protocol::printable() of at most 500 bytes.
std::string printable(const std::string& text);

}  // namespace agent
