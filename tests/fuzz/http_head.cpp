// Any bytes as what a client sends first: the head's end is where a plain search finds it, a head is refused with
// Error(bad_request) or each of its lines is one header, nothing of it can be taken for another request, and written
// again it means the same.
#include "http_head.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "http_head_end.h"
#include "http_message.h"
#include "protocol/error.h"

namespace {

// The head at the beginning of `received` as the server cuts it out, fed in pieces of `step` bytes; empty: more is to
// come.
std::string_view cut_head(std::string_view received, size_t step) {
  size_t looked_at = 0;
  for (size_t have = 0; have < received.size();) {
    have = std::min(received.size(), have + step);
    const std::string_view buffer = received.substr(0, have);
    const auto [place, found] = pool::HeadEnd()(buffer.begin() + static_cast<std::ptrdiff_t>(looked_at), buffer.end());
    looked_at = static_cast<size_t>(place - buffer.begin());
    if (found) return buffer.substr(0, looked_at);
  }
  return {};
}

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) || std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

bool is_printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) { return (c >= 0x20 && c != 0x7f) || c == '\t'; });
}

std::string written(const pool::HttpRequest& request) {
  std::string text = request.method + " " + request.path + " HTTP/1.1\r\n";
  for (const auto& [name, value] : request.headers) text += name + ": " + value + "\r\n";
  return text + "\r\n";
}

bool same(const pool::Head& a, const pool::Head& b) {
  return a.request.method == b.request.method && a.request.path == b.request.path &&
         a.request.headers == b.request.headers && a.body_bytes == b.body_bytes && a.keep_alive == b.keep_alive &&
         a.wants_continue == b.wants_continue;
}

void check(const pool::Head& head, std::string_view text) {
  const pool::HttpRequest& request = head.request;
  if (!is_token(request.method) || !request.path.starts_with('/') || !is_printable(request.path) ||
      request.path.find_first_of(" \t") != std::string::npos) {
    std::abort();
  }
  // The request line, one line for each header, the empty line.
  if (static_cast<size_t>(std::count(text.begin(), text.end(), '\n')) != request.headers.size() + 2) std::abort();
  for (const auto& [name, value] : request.headers) {
    if (!is_token(name) || !is_printable(value)) std::abort();
    if (std::any_of(name.begin(), name.end(), [](unsigned char c) { return c >= 'A' && c <= 'Z'; })) std::abort();
  }
  if (request.headers.contains("transfer-encoding") || request.headers.count("content-length") > 1 ||
      request.headers.count("host") != 1) {
    std::abort();
  }
  const auto length = request.header("content-length");
  if (length ? std::to_string(head.body_bytes) !=
                   length->substr(std::min(length->find_first_not_of('0'), length->size() - 1))
             : head.body_bytes != 0) {
    std::abort();
  }
  if (!same(pool::parse_head(written(request)), head)) std::abort();
}

// The bytes that a Range header asks for lie in the file.
void check_range(const pool::HttpRequest& request) {
  const auto range = request.headers.find("range");
  if (range == request.headers.end()) return;
  for (const uint64_t size : {uint64_t{0}, uint64_t{1}, uint64_t{5000}, UINT64_MAX}) {
    try {
      const auto bytes = pool::parse_range(range->second, size);
      if (bytes && (bytes->first > bytes->second || bytes->second >= size)) std::abort();
    } catch (const std::out_of_range&) {
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view received(reinterpret_cast<const char*>(data), size);
  const std::string_view text = cut_head(received, SIZE_MAX / 2);
  for (const size_t step : {size_t{1}, size_t{5}}) {
    if (cut_head(received, step) != text) std::abort();
  }
  if (text.empty()) return 0;
  try {
    const pool::Head head = pool::parse_head(text);
    check(head, text);
    check_range(head.request);
  } catch (const protocol::Error& error) {
    if (error.code != protocol::ErrorCode::bad_request) std::abort();
  }
  return 0;
}
