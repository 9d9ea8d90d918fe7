#include "http_head.h"

#include <algorithm>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cctype>
#include <charconv>

namespace pool {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using protocol::ErrorCode;

Head parse_head(std::string_view text) {
  const auto bad = [](const std::string& what) { return protocol::Error(ErrorCode::bad_request, what); };
  if (const char* flaw = flaw_of_head(text)) throw bad(flaw);
  http::request_parser<http::empty_body> parser;
  parser.header_limit(static_cast<uint32_t>(text.size()));
  parser.body_limit(boost::none);
  error_code error;
  parser.put(asio::buffer(text.data(), text.size()), error);
  if (error || !parser.is_header_done()) throw bad("not an HTTP request: " + error.message());

  const auto& message = parser.get();
  Head head;
  head.request.method = message.method_string();
  head.request.path = message.target();
  for (const auto& field : message) {
    std::string name = field.name_string();
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    head.request.headers.emplace(std::move(name), field.value());
  }
  if (message.version() != 11) throw bad("only HTTP/1.1 is spoken here");
  if (!head.request.path.starts_with('/')) throw bad("the request target is not a path");
  if (head.request.header("host").value_or("").empty()) throw bad("the Host header is missing");
  if (head.request.header("transfer-encoding")) throw bad("Transfer-Encoding is not accepted: send Content-Length");
  if (const auto length = head.request.header("content-length")) {
    const char* end = length->data() + length->size();
    const auto [stop, failure] = std::from_chars(length->data(), end, head.body_bytes);
    if (failure != std::errc() || stop != end) throw bad("Content-Length is not a number");
  }
  if (const auto expect = head.request.header("expect")) {
    if (!beast::iequals(*expect, "100-continue")) throw bad("an Expect header other than 100-continue");
    head.wants_continue = true;
  }
  head.keep_alive = message.keep_alive();
  return head;
}

const char* flaw_of_head(std::string_view head) {
  if (!head.ends_with("\r\n\r\n")) return "a line does not end in CRLF";
  char previous = '\n';
  for (const char c : head) {
    if ((c == '\n') != (previous == '\r')) return "a line does not end in CRLF";
    if (previous == '\n' && (c == ' ' || c == '\t')) return "a folded header line";
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\r' && c != '\n') || c == 0x7f) {
      return "a control character in the header";
    }
    previous = c;
  }
  return nullptr;
}

}  // namespace pool
