// HTTP Message Signatures (RFC 9421) in the one form that docs/protocol.md section 3 allows.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "protocol/digest.h"
#include "protocol/keys.h"

namespace protocol {

// What is signed of a request. Views are of the caller's strings.
constexpr int64_t max_skew_s = 300;  // of the clocks of rig and pool, either way

struct RequestParts {
  std::string_view method;     // "POST"
  std::string_view authority;  // Host header's value
  std::string_view path;       // "/v1/leases"
  std::span<const uint8_t> body;
};

struct SignatureHeaders {
  std::string content_digest;
  std::string signature_input;
  std::string signature;
};

// created = now, expires = now + 300; nonce: 32 lowercase hex digits, fresh for each request. Throws Error(bad_request)
// for parts that HTTP could not carry (control characters in a path, …).
SignatureHeaders sign_request(const RequestParts& request, const PrivateKey& key, const Digest& pool_id, int64_t now,
                              const std::string& nonce = random_hex16());

struct VerifiedRequest {
  PublicKey key;
  std::string nonce;
  int64_t expires = 0;
  std::string base;  // the signature base, word for word
  Signature signature{};
};

// Each header's value where it stands exactly once in the request, empty where it is absent; refuse repeated ones, or
// pass them joined by ", ". Throws Error(bad_request) for impossible parts, else Error with a code of 1100 … 1106
// (nonces are the caller's to check: it needs a store).
VerifiedRequest verify_request(const RequestParts& request, const SignatureHeaders& headers, const Digest& pool_id,
                               int64_t now);

}  // namespace protocol
