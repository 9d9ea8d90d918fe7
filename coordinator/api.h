// The requests of docs/protocol.md section 2 on a Pool: routing, signatures, bounds, errors.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "background.h"
#include "http_server.h"
#include "metrics.h"
#include "pool.h"
#include "rate_limiter.h"

namespace pool {

// Requests a second; a burst of ten seconds' worth is let through.
struct ApiLimits {
  double per_key = 200;
  double per_address = 2000;  // a farm may sit behind one address
};

// Thread-safe.
class Api : public HttpHandler {
 public:
  // All must outlive the object.
  Api(Pool& pool, Clock& clock, Background& background, Metrics& metrics, const ApiLimits& limits);

  HttpAdmission admit(const HttpRequest& request) noexcept override;
  HttpResponse handle(const HttpRequest& request) noexcept override;
  void finished(const HttpExchange& exchange) noexcept override;

 private:
  HttpResponse answer(const HttpRequest& request);
  void log_refusal(const HttpRequest& request, const protocol::Error& error);

  Pool& pool_;
  Clock& clock_;
  Background& background_;
  Metrics& metrics_;
  const uint64_t max_piece_bytes_;
  RateLimiter keys_, addresses_;
  RateLimiter log_lines_;  // a rig that is refused once a second is one line a minute
};

}  // namespace pool
