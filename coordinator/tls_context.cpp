#include "tls_context.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <string>
#include <system_error>

#include "errors.h"

namespace pool {
namespace {

int64_t unix_time(const ASN1_TIME* time) {
  tm parts{};
  return ASN1_TIME_to_tm(time, &parts) == 1 ? timegm(&parts) : 0;
}

std::string openssl_reason() {
  const unsigned long code = ERR_peek_last_error();
  const char* reason = code != 0 ? ERR_reason_error_string(code) : nullptr;
  ERR_clear_error();
  return reason != nullptr ? reason : "no reason given";
}

void check_readable(const std::filesystem::path& file, const char* flag) {
  if (!std::ifstream(file)) {
    throw Failure(ExitCode::bad_input,
                  std::string(flag) + " " + file.string() + ": " + std::generic_category().message(errno));
  }
}

}  // namespace

void FreeTlsContext::operator()(SSL_CTX* context) const { SSL_CTX_free(context); }

TlsContext load_tls(const TlsFiles& files) {
  check_readable(files.certificate, "--certificate");
  check_readable(files.private_key, "--private-key");
  ERR_clear_error();
  TlsContext tls;
  tls.context.reset(SSL_CTX_new(TLS_server_method()));
  SSL_CTX* context = tls.context.get();
  if (context == nullptr || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
      SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1) {
    throw Failure(ExitCode::bad_input, "OpenSSL refuses TLS 1.2 with forward secrecy: " + openssl_reason());
  }
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);  // thousands of idle connections
  if (SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()) != 1) {
    throw Failure(ExitCode::bad_input,
                  "--certificate " + files.certificate.string() + ": not a PEM certificate: " + openssl_reason());
  }
  // An encrypted key must not ask for its password on a terminal.
  SSL_CTX_set_default_passwd_cb(context, [](char*, int, int, void*) { return -1; });
  if (SSL_CTX_use_PrivateKey_file(context, files.private_key.c_str(), SSL_FILETYPE_PEM) != 1) {
    const bool mismatch = ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH ||
                          ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_TYPE_MISMATCH;
    throw Failure(ExitCode::bad_input, "--private-key " + files.private_key.string() + ": " +
                                           (mismatch ? "does not match --certificate " + files.certificate.string()
                                                     : "not an unencrypted PEM private key: " + openssl_reason()));
  }
  const X509* leaf = SSL_CTX_get0_certificate(context);
  tls.expires = unix_time(X509_get0_notAfter(leaf));
  ERR_clear_error();
  return tls;
}

}  // namespace pool
