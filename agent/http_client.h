// HTTPS over libcurl: TLS 1.2 or later, always verified, no redirects, one kept-alive connection.
#pragma once

#include <curl/curl.h>

#include <memory>
#include <string>

#include "clock.h"
#include "transport.h"
#include "url.h"

namespace agent {

struct TlsTrust {
  std::string ca_file;  // empty: the system's trust store
  std::string pin;      // empty, or SHA-256 of the server's SubjectPublicKeyInfo in hex
};

// When a transfer is dead; a busy pool may need a while to hash an upload.
struct Patience {
  long connect_seconds = 10;
  long bytes_per_second = 100, slow_seconds = 60;  // slower than that for so long
};

// Trust: a pin alone identifies the server by its key and nothing else is asked of the certificate; with a CA file
// both must hold; without a pin the chain and the host name must hold.
class HttpClient : public Transport {
 public:
  // Throws std::runtime_error when libcurl cannot start.
  HttpClient(const Url& url, const TlsTrust& trust, const Stop& stop, const Patience& patience = {});

  HttpResponse send(const HttpRequest& request) override;
  const std::string& authority() const override { return url_.authority; }

 private:
  struct Exchange;
  TransportError error_of(CURLcode code, const char* detail) const;

  const Url url_;
  const TlsTrust trust_;
  const Patience patience_;
  const Stop& stop_;
  std::unique_ptr<CURL, void (*)(CURL*)> curl_;
};

}  // namespace agent
