// Logs on stderr through spdlog: lines for people, or with --json one JSON object per line.
#pragma once

#include <spdlog/common.h>

#include <nlohmann/json.hpp>
#include <string_view>

namespace pool {

// Replaces spdlog's default logger. Call once, before other threads start.
void set_up_logging(bool json);

// One event and its fields: `round closed  job=kjv round=3 loss=2.31`, or
// {"time":…,"level":"info","event":"round closed","job":"kjv",…}. Values from outside are escaped in both.
void log_event(spdlog::level::level_enum level, std::string_view event,
               const nlohmann::ordered_json& fields = nlohmann::ordered_json::object());

}  // namespace pool
