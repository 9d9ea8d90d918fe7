// One HTTP exchange with a pool: what pool_client needs of a network. HttpClient is the real one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "protocol/json.h"

namespace agent {

struct HttpRequest {
  std::string method, path;
  std::vector<std::string> headers;  // "Name: value"
  std::span<const uint8_t> body;
  uint64_t max_answer_bytes =
      protocol::max_json_bytes;  // for on_body; what is kept in memory is never longer than that
  // Where set, takes the body of a 200 or 206 piece by piece instead of HttpResponse::body. May throw.
  std::function<void(int status, std::span<const uint8_t>)> on_body;
  std::function<bool()> cancelled;  // may be empty; asked about once a second
  // The last words of a stopping agent: sent although a stop is requested, within at most 2 seconds.
  bool parting = false;
};

struct HttpResponse {
  int status = 0;
  std::string body;
  std::optional<double> retry_after;  // seconds
};

// No answer. what() is for a person, with the address in it.
class TransportError : public std::runtime_error {
 public:
  enum class Kind { unreachable, tls, cancelled };
  TransportError(Kind error_kind, const std::string& message) : std::runtime_error(message), kind(error_kind) {}
  const Kind kind;
};

// One thread at a time.
class Transport {
 public:
  virtual ~Transport() = default;
  // Any status is an answer. Throws TransportError, or what on_body throws.
  virtual HttpResponse send(const HttpRequest& request) = 0;
  virtual const std::string& authority() const = 0;  // the Host header
};

}  // namespace agent
