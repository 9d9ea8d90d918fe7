// How commands print: aligned tables and amounts for people, JSON for machines.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace pool {

// Columns as wide as their longest cell; numbers are the caller's to format.
void print_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows);
void print_json(const nlohmann::json& value);

std::string show_bytes(uint64_t bytes);    // "1.3 MB"
std::string show_time(int64_t unix_time);  // local time, "-" for 0
std::string show_seconds(double seconds);  // "2 h 05 min"
std::string show_count(uint64_t count);    // "12,345"
std::string show_amount(int64_t micro);    // "12,345", with its sign

}  // namespace pool
