// The server's TLS settings and certificate, as OpenSSL has them.
#pragma once

#include <openssl/types.h>

#include <cstdint>
#include <filesystem>
#include <memory>

namespace pool {

struct TlsFiles {
  std::filesystem::path certificate, private_key;  // PEM; the chain, leaf first, and its unencrypted key
};

struct FreeTlsContext {
  void operator()(SSL_CTX* context) const;
};
struct TlsContext {
  std::unique_ptr<SSL_CTX, FreeTlsContext> context;
  int64_t expires = 0;  // Unix seconds, of the leaf
};

// TLS 1.2 or later with forward secrecy and authenticated ciphers. Throws Failure(bad_input) naming the flag, the file
// and what is wrong: unreadable, not PEM, encrypted, not a pair.
TlsContext load_tls(const TlsFiles& files);

}  // namespace pool
