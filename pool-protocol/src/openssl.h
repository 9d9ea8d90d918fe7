// Failures of OpenSSL and owners of its objects.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include <memory>
#include <stdexcept>
#include <string>

namespace protocol {

template <auto free_function>
struct OpensslFree {
  template <class T>
  void operator()(T* object) const {
    free_function(object);
  }
};
using Bio = std::unique_ptr<BIO, OpensslFree<BIO_free>>;
using Pkey = std::unique_ptr<EVP_PKEY, OpensslFree<EVP_PKEY_free>>;
using MdContext = std::unique_ptr<EVP_MD_CTX, OpensslFree<EVP_MD_CTX_free>>;

// Throws std::runtime_error with `what` and OpenSSL's own reason; empties its error queue.
[[noreturn]] inline void throw_openssl(const std::string& what) {
  char reason[256] = "unknown reason";
  if (const unsigned long error = ERR_peek_last_error(); error != 0) ERR_error_string_n(error, reason, sizeof reason);
  ERR_clear_error();
  throw std::runtime_error(what + ": " + reason);
}

inline void require(bool success, const char* what) {
  if (!success) throw_openssl(what);
}

}  // namespace protocol
