// Requests and responses as plain values, and the pure parts of reading them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/error.h"

namespace pool {

struct HttpRequest {
  std::string id;                                                // for logs, unique in this process
  std::string peer;                                              // client address without port (IPv6: its /64)
  std::string method;                                            // "GET"
  std::string path;                                              // begins with '/'
  std::multimap<std::string, std::string, std::less<>> headers;  // names in lower case
  std::string body;                                              // empty in HttpHandler::admit()

  // The only value of a header, nullopt if there is none. Throws Error(bad_request) for repeated headers.
  std::optional<std::string> header(std::string_view lower_case_name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::filesystem::path file;  // if set, sent instead of body, in pieces; the request's Range applies
  std::vector<std::pair<std::string, std::string>> headers;
  std::string error_name;  // of a refusal, for the counters
  bool close = false;      // the connection, after this response
};

// The JSON form of docs/protocol.md section 2; 429 and 503 get Retry-After. details: further members of "error".
HttpResponse error_response(const protocol::Error& error, const nlohmann::json& details = nlohmann::json::object());

// "host:port" → host without brackets, port. Throws Failure.
std::pair<std::string, uint16_t> split_address(const std::string& address);
bool is_loopback(const std::string& host);

// First and last byte of "bytes=N-" or "bytes=N-M" in a file; nullopt: any other form, which is ignored.
// Throws std::out_of_range where nothing of the range exists; the answer is 416 then.
std::optional<std::pair<uint64_t, uint64_t>> parse_range(std::string_view range, uint64_t file_bytes);
HttpResponse range_response(uint64_t file_bytes, bool close);

std::string http_date();  // now

}  // namespace pool
