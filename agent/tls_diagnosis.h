// What to tell a person when TLS fails: the cause, and the flag or deed that helps.
#pragma once

#include <curl/curl.h>

#include <string>

#include "http_client.h"

namespace agent {

// Looks at the server's certificate (a handshake only, nothing is sent) to name its fingerprint.
TransportError describe_tls_failure(const Url& url, const TlsTrust& trust, CURLcode code, const std::string& reason);

}  // namespace agent
