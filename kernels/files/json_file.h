// JSON from files that a stranger may have written: bounded in size and depth, one message per mistake.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace kernels {

// Throws std::runtime_error for text that is not JSON, nests deeper than 16, or repeats a key of an object.
nlohmann::json parse_json(std::string_view text);

// The file's JSON; std::runtime_error names the file. At most 64 MiB (a sharded model's index is the largest).
nlohmann::json read_json_file(const std::filesystem::path& file);

// A value as it stands in an error message, cut to a readable length.
std::string shown(const nlohmann::json& value);

}  // namespace kernels
