// What the status listener serves: the page and its files (embedded in the binary), /status.json, /metrics, /healthz.
#pragma once

#include <string>

#include "background.h"
#include "http_server.h"
#include "metrics.h"

namespace pool {

// Thread-safe.
class StatusPage : public HttpHandler {
 public:
  // All must outlive the object; the server is asked for its connections and certificate.
  StatusPage(const Background& background, const Metrics& metrics, const HttpServer& server)
      : background_(background), metrics_(metrics), server_(server) {}

  HttpAdmission admit(const HttpRequest& request) noexcept override;
  HttpResponse handle(const HttpRequest& request) noexcept override;

 private:
  const Background& background_;
  const Metrics& metrics_;
  const HttpServer& server_;
};

// /status.json; losses are thinned to about 500 points a curve.
std::string status_json(const Snapshot& snapshot);

}  // namespace pool
