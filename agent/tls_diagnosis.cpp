#include "tls_diagnosis.h"

#include <openssl/pem.h>
#include <openssl/x509.h>

#include <ctime>
#include <memory>

#include "protocol/digest.h"

namespace agent {
namespace {

// No machine that runs this version can rightly have a clock before this (2025-01-01).
constexpr std::time_t earliest_plausible_time = 1735689600;

// SHA-256 of the SubjectPublicKeyInfo of a PEM certificate in hex; empty when it cannot be read.
std::string fingerprint_of(const char* pem) {
  std::unique_ptr<BIO, int (*)(BIO*)> in(BIO_new_mem_buf(pem, -1), BIO_free);
  if (!in) return "";
  std::unique_ptr<X509, void (*)(X509*)> certificate(PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr), X509_free);
  if (!certificate) return "";
  unsigned char* der = nullptr;
  int bytes = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate.get()), &der);
  if (bytes <= 0) return "";
  std::string hex = protocol::to_hex(protocol::sha256(std::span<const uint8_t>(der, static_cast<size_t>(bytes))));
  OPENSSL_free(der);
  return hex;
}

// The fingerprint that the server shows; empty when there is none to be had.
std::string server_fingerprint(const Url& url) {
  std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), curl_easy_cleanup);
  if (!curl || curl_easy_setopt(curl.get(), CURLOPT_URL, url.text.c_str()) != CURLE_OK ||
      curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "https") != CURLE_OK ||
      curl_easy_setopt(curl.get(), CURLOPT_CONNECT_ONLY, 1L) != CURLE_OK ||
      curl_easy_setopt(curl.get(), CURLOPT_CERTINFO, 1L) != CURLE_OK ||
      curl_easy_setopt(curl.get(), CURLOPT_SSL_VERIFYPEER, 0L) != CURLE_OK ||
      curl_easy_setopt(curl.get(), CURLOPT_SSL_VERIFYHOST, 0L) != CURLE_OK ||
      curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L) != CURLE_OK ||
      curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT, 5L) != CURLE_OK || curl_easy_perform(curl.get()) != CURLE_OK) {
    return "";
  }
  curl_certinfo* chain = nullptr;
  if (curl_easy_getinfo(curl.get(), CURLINFO_CERTINFO, &chain) != CURLE_OK || chain == nullptr) return "";
  if (chain->num_of_certs == 0) return "";
  for (const curl_slist* line = chain->certinfo[0]; line != nullptr; line = line->next) {
    const std::string text = line->data;
    if (text.compare(0, 5, "Cert:") == 0) return fingerprint_of(text.c_str() + 5);
  }
  return "";
}

std::string date_of(std::time_t time) {
  char text[32];
  std::tm parts{};
  gmtime_r(&time, &parts);
  std::strftime(text, sizeof text, "%Y-%m-%d", &parts);
  return text;
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TransportError describe_tls_failure(const Url& url, const TlsTrust& trust, CURLcode code, const std::string& reason) {
  const std::string place = url.host + ":" + std::to_string(url.port);
  auto error = [&](const std::string& message) { return TransportError(TransportError::Kind::tls, message); };

  if (code == CURLE_SSL_CONNECT_ERROR) {
    if (contains(reason, "wrong version number") || contains(reason, "packet length too long") ||
        contains(reason, "http request")) {
      return error(place + " does not speak TLS; a pool needs https, so this is another service or the wrong port");
    }
    // Broken connections are the network's, not the certificate's.
    if (!contains(reason, "alert") && !contains(reason, "certificate")) {
      return TransportError(TransportError::Kind::unreachable,
                            place + ": the TLS handshake broke off (" + reason + ")");
    }
    return error(place + ": the TLS handshake failed (" + reason + ")");
  }
  const std::time_t now = std::time(nullptr);
  if (now < earliest_plausible_time) {
    return error("this machine's clock says " + date_of(now) + ", so no certificate can be checked; set the clock (" +
                 "is the RTC battery dead?) and start again");
  }
  const std::string seen = server_fingerprint(url);
  const std::string fingerprint = seen.empty() ? "" : " The key that it showed has SHA-256 " + seen + ".";
  if (code == CURLE_SSL_PINNEDPUBKEYNOTMATCH) {
    return error("the key of " + place + " is not the one of --pin " + trust.pin +
                 "; either the pool changed its key, or someone stands between." + fingerprint);
  }
  if (contains(reason, "match")) {
    return error("the certificate of " + place + " is for another host name (" + reason +
                 "); use the name that is in the certificate, or --pin." + fingerprint);
  }
  if (contains(reason, "expired") || contains(reason, "not yet valid")) {
    return error("the certificate of " + place + " is not valid today (" + reason + "); this machine's clock says " +
                 date_of(now) + ": set it if that is wrong, else tell the pool's operator." + fingerprint);
  }
  return error("the certificate of " + place + " is not trusted (" + reason +
               "); give the pool's CA file with --ca FILE, or its key's fingerprint with --pin SHA256." + fingerprint);
}

}  // namespace agent
