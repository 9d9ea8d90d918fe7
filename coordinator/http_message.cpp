#include "http_message.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <stdexcept>

#include "errors.h"
#include "protocol/messages.h"

namespace pool {

using protocol::ErrorCode;

std::optional<std::string> HttpRequest::header(std::string_view name) const {
  const auto [begin, end] = headers.equal_range(name);
  if (begin == end) return std::nullopt;
  if (std::next(begin) != end) {
    throw protocol::Error(ErrorCode::bad_request, "the header " + std::string(name) + " is repeated");
  }
  return begin->second;
}

HttpResponse error_response(const protocol::Error& error, const nlohmann::json& details) {
  HttpResponse response;
  response.status = protocol::http_status_of(error.code);
  response.body =
      protocol::error_to_json(error, details).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  response.error_name = protocol::name_of(error.code);
  if (response.status == 429 || response.status == 503) response.headers.emplace_back("Retry-After", "1");
  return response;
}

std::pair<std::string, uint16_t> split_address(const std::string& address) {
  const size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  const std::string_view digits = colon == std::string::npos ? "" : std::string_view(address).substr(colon + 1);
  uint16_t port = 0;
  const auto [stop, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (digits.empty() || failure != std::errc() || stop != digits.data() + digits.size() || host.empty() ||
      (!bracketed && host.find_first_of(":[]") != std::string::npos)) {
    throw Failure(ExitCode::usage, "\"" + address + "\" is not HOST:PORT (for example 0.0.0.0:8443 or [::]:8443)");
  }
  if (bracketed) host = host.substr(1, host.size() - 2);
  return {host, port};
}

bool is_loopback(const std::string& host) {
  in_addr v4{};
  in6_addr v6{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return host == "localhost";
}

std::optional<std::pair<uint64_t, uint64_t>> parse_range(std::string_view range, uint64_t file_bytes) {
  constexpr std::string_view unit = "bytes=";
  if (!range.starts_with(unit)) return std::nullopt;
  range.remove_prefix(unit.size());
  const char* end = range.data() + range.size();
  uint64_t first = 0, last = UINT64_MAX;
  const auto [dash, bad_first] = std::from_chars(range.data(), end, first);
  if (bad_first != std::errc() || dash == end || *dash != '-') return std::nullopt;
  if (dash + 1 != end) {
    const auto [stop, bad_last] = std::from_chars(dash + 1, end, last);
    if (bad_last != std::errc() || stop != end || last < first) return std::nullopt;
  }
  if (first >= file_bytes) throw std::out_of_range("the range begins behind the end");
  return std::pair{first, std::min(last, file_bytes - 1)};
}

HttpResponse range_response(uint64_t file_bytes, bool close) {
  const std::string bytes = std::to_string(file_bytes);
  HttpResponse response = error_response(
      protocol::Error(ErrorCode::bad_request, "the range begins behind the end of a blob of " + bytes + " bytes"));
  response.status = 416;
  response.headers.emplace_back("Content-Range", "bytes */" + bytes);
  response.close = close;
  return response;
}

std::string http_date() {
  const time_t now = time(nullptr);
  tm parts{};
  gmtime_r(&now, &parts);
  char text[40];
  strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return text;
}

}  // namespace pool
