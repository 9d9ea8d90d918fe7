// A pool's address.
#pragma once

#include <cstdint>
#include <string>

namespace agent {

struct Url {
  std::string text;  // "https://pool.example:8443"
  std::string host;  // lowercase
  uint16_t port = 443;
  std::string authority;  // the Host header: lowercase, without port 443
};

// Throws Failure(input) saying what is wrong and what is expected.
Url parse_pool_url(const std::string& text);

}  // namespace agent
