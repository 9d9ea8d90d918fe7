#include "protocol/http_signature.h"

#include <gtest/gtest.h>

#include "protocol/error.h"
#include "refusal.h"
#include "samples.h"

namespace protocol {
namespace {

using samples::now;

const std::string nonce = "00112233445566778899aabbccddeeff";

struct Request {
  std::string method = "POST", host = "pool.example:8443", path = "/v1/leases", body = "{}";
  RequestParts parts() const {
    return {method, host, path, {reinterpret_cast<const uint8_t*>(body.data()), body.size()}};
  }
};

class HttpSignature : public ::testing::Test {
 protected:
  SignatureHeaders sign(int64_t at = now) const { return sign_request(request_.parts(), key_, pool_, at, nonce); }
  VerifiedRequest verify(const SignatureHeaders& headers, int64_t at = now) const {
    return verify_request(request_.parts(), headers, pool_, at);
  }
  void expect_refused(const SignatureHeaders& headers, ErrorCode code, const std::string& context,
                      int64_t at = now) const {
    expect_refusal([&] { verify(headers, at); }, code, "", context);
  }

  const PrivateKey key_ = samples::test_key(samples::rig_seed);
  const Digest pool_ = samples::pool_id();
  Request request_;
};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST_F(HttpSignature, RoundTrip) {
  const SignatureHeaders headers = sign();
  const VerifiedRequest verified = verify(headers);
  EXPECT_EQ(verified.key, key_.public_key());
  EXPECT_EQ(verified.nonce, nonce);
  EXPECT_EQ(verified.expires, now + 300);
  EXPECT_TRUE(protocol::verify(verified.key, verified.base, verified.signature));
  EXPECT_EQ(verified.base,
            "\"@method\": POST\n\"@authority\": pool.example:8443\n\"@path\": /v1/leases\n\"content-digest\": " +
                headers.content_digest + "\n\"@signature-params\": " + headers.signature_input.substr(5));
}

TEST_F(HttpSignature, NoncesAreFresh) {
  const auto draw = [&] { return verify(sign_request(request_.parts(), key_, pool_, now)).nonce; };
  EXPECT_NE(draw(), draw());
}

TEST_F(HttpSignature, AuthorityIsNormalised) {
  request_.host = "Pool.Example:443";
  const SignatureHeaders headers = sign();
  request_.host = "pool.example";
  EXPECT_NO_THROW(verify(headers));
  request_.host = "pool.example:8443";
  expect_refused(headers, ErrorCode::signature_invalid, "another port");
}

TEST_F(HttpSignature, EmptyBody) {
  request_.body.clear();
  EXPECT_NO_THROW(verify(sign()));
}

TEST_F(HttpSignature, EveryPartIsSigned) {
  const SignatureHeaders headers = sign();
  const Request original = request_;
  request_.method = "PUT";
  expect_refused(headers, ErrorCode::signature_invalid, "method");
  request_ = original;
  request_.host = "pool.example";
  expect_refused(headers, ErrorCode::signature_invalid, "host");
  request_ = original;
  request_.path = "/v1/rigs";
  expect_refused(headers, ErrorCode::signature_invalid, "path");
  request_ = original;
  request_.body = "{ }";
  expect_refused(headers, ErrorCode::content_digest_mismatch, "body");
  SignatureHeaders other_digest = headers;
  other_digest.content_digest = sign_request(request_.parts(), key_, pool_, now, nonce).content_digest;
  expect_refused(other_digest, ErrorCode::signature_invalid, "body and digest");
}

TEST_F(HttpSignature, EveryParameterIsSigned) {
  const SignatureHeaders headers = sign();
  const std::string other_key = to_hex(samples::test_key(samples::new_rig_seed).public_key());
  const std::pair<std::string, std::string> changes[] = {
      {"created=" + std::to_string(now), "created=" + std::to_string(now + 1)},
      {"expires=" + std::to_string(now + 300), "expires=" + std::to_string(now + 299)},
      {nonce, "10112233445566778899aabbccddeeff"},
      {to_hex(key_.public_key()), other_key}};
  for (const auto& [from, to] : changes) {
    SignatureHeaders changed = headers;
    changed.signature_input = replaced(headers.signature_input, from, to);
    expect_refused(changed, ErrorCode::signature_invalid, to);
  }
}

TEST_F(HttpSignature, MissingHeaders) {
  for (std::string SignatureHeaders::*header :
       {&SignatureHeaders::content_digest, &SignatureHeaders::signature_input, &SignatureHeaders::signature}) {
    SignatureHeaders headers = sign();
    (headers.*header).clear();
    expect_refused(headers, ErrorCode::signature_missing, "a header is missing");
  }
}

TEST_F(HttpSignature, OnlyTheOneFormOfSignatureInput) {
  const SignatureHeaders good = sign();
  const std::string& input = good.signature_input;
  const std::string created = ";created=" + std::to_string(now), expires = ";expires=" + std::to_string(now + 300);
  const std::string key = to_hex(key_.public_key()), pool = to_hex(pool_);
  std::string upper_key = key, upper_pool = pool;
  for (char& c : upper_key) c = static_cast<char>(std::toupper(c));
  for (char& c : upper_pool) c = static_cast<char>(std::toupper(c));
  const std::string bad[] = {"sig2" + input.substr(4),                        // another label
                             input + ", " + replaced(input, "sig1", "sig2"),  // two labels
                             input + ", " + input,                            // twice
                             replaced(input, "\"@method\" \"@authority\"", "\"@authority\" \"@method\""),
                             replaced(input, "\"@method\" ", ""),
                             replaced(input, " \"content-digest\"", ""),
                             replaced(input, " \"content-digest\"", " \"content-digest\" \"host\""),
                             replaced(input, "\"@path\"", "\"@target-uri\""),
                             replaced(input, "\"@path\"", "\"@path\";req"),
                             replaced(input, "\"@path\"", "\"@path\" \"@query\""),
                             replaced(input, created, ""),
                             replaced(input, expires, ""),
                             replaced(input, created + expires, expires + created),
                             replaced(input, created, created + created),
                             replaced(input, created, replaced(created, "=", "=0")),
                             replaced(input, created, replaced(created, "=", "=+")),
                             replaced(input, created, replaced(created, "=", "=-")),
                             replaced(input, created, replaced(created, "=", "= ")),
                             replaced(input, created, created + ".0"),
                             replaced(input, created, ";created=99999999999999999999"),
                             replaced(input, created, ";created="),
                             replaced(input, nonce, ""),
                             replaced(input, nonce, nonce.substr(1)),
                             replaced(input, nonce, nonce + "0"),
                             replaced(input, nonce, "00112233445566778899AABBCCDDEEFF"),
                             replaced(input, key, upper_key),
                             replaced(input, key, key.substr(2)),
                             replaced(input, pool, upper_pool),
                             replaced(input, pool, pool + "\"x"),
                             replaced(input, "ed25519", "rsa-v1_5-sha256"),
                             replaced(input, ";alg=\"ed25519\"", ""),
                             replaced(input, ";tag=\"" + pool + "\"", ""),
                             input + ";extra=1",
                             input + " ",
                             " " + input,
                             replaced(input, ";created", "; created"),
                             input + "\r\n",
                             input + "\r\nX-Injected: 1",
                             replaced(input, nonce, nonce.substr(0, 15) + "\r\n" + nonce.substr(17)),
                             input + std::string(1, '\0'),
                             "sig1=",
                             std::string(100'000, ';')};
  for (const std::string& text : bad) {
    SignatureHeaders headers = good;
    headers.signature_input = text;
    expect_refused(headers, ErrorCode::signature_malformed, text.substr(0, 400));
  }
}

TEST_F(HttpSignature, OnlyTheOneFormOfTheOtherHeaders) {
  const SignatureHeaders good = sign();
  const std::string digest = good.content_digest, signature = good.signature;
  for (const std::string& text :
       {"sha-512" + digest.substr(7), digest + ", " + digest, digest + " ", " " + digest, digest + "\r\n",
        digest.substr(0, digest.size() - 1), replaced(digest, "=:", "=: "), std::string("sha-256=::"),
        replaced(digest, "sha-256=:", "sha-256=\""), std::string("sha-256=:") + std::string(44, '=') + ":"}) {
    SignatureHeaders headers = good;
    headers.content_digest = text;
    expect_refused(headers, ErrorCode::signature_malformed, text);
  }
  for (const std::string& text :
       {"sig2" + signature.substr(4), signature + ", " + replaced(signature, "sig1", "sig2"), signature + " ",
        " " + signature, signature + "\r\n", signature.substr(0, signature.size() - 1), std::string("sig1=::"),
        std::string("sig1=:"), std::string("sig1=:QUJD:"), replaced(signature, "==:", "=:")}) {
    SignatureHeaders headers = good;
    headers.signature = text;
    expect_refused(headers, ErrorCode::signature_malformed, text);
  }
}

TEST_F(HttpSignature, AlteredSignature) {
  SignatureHeaders headers = sign();
  headers.signature[20] = headers.signature[20] == 'A' ? 'B' : 'A';
  expect_refused(headers, ErrorCode::signature_invalid, headers.signature);
}

TEST_F(HttpSignature, BoundToItsPool) {
  const SignatureHeaders headers = sign_request(request_.parts(), key_, samples::digest_of("another pool"), now, nonce);
  expect_refused(headers, ErrorCode::wrong_pool, "tag");
}

TEST_F(HttpSignature, Clocks) {
  const SignatureHeaders headers = sign();
  EXPECT_NO_THROW(verify(headers, now - 300));  // created 300 s in the pool's future
  expect_refused(headers, ErrorCode::clock_skew, "rig ahead", now - 301);
  EXPECT_NO_THROW(verify(headers, now + 600));  // expired 300 s ago
  expect_refused(headers, ErrorCode::clock_skew, "rig behind", now + 601);
}

// A properly signed request whose lifetime is not 1 to 300 s.
TEST_F(HttpSignature, Lifetime) {
  const SignatureHeaders good = sign();
  const std::string base = verify(good).base;
  for (const int64_t lifetime : {301, 0, -1, 1'000'000}) {
    const auto change = [&](const std::string& text) {
      return replaced(text, "expires=" + std::to_string(now + 300), "expires=" + std::to_string(now + lifetime));
    };
    SignatureHeaders headers = good;
    headers.signature_input = change(good.signature_input);
    headers.signature = "sig1=:" + base64(key_.sign(change(base))) + ":";
    expect_refused(headers, ErrorCode::signature_malformed, std::to_string(lifetime));
  }
}

TEST_F(HttpSignature, ImpossiblePartsAreRefused) {
  const SignatureHeaders headers = sign();
  const Request original = request_;
  const auto expect_bad = [&](std::string Request::*part, const std::string& value) {
    request_ = original;
    request_.*part = value;
    expect_refused(headers, ErrorCode::bad_request, value);
    expect_refusal([&] { sign(); }, ErrorCode::bad_request, "", value);
  };
  for (const std::string method : {"", "post", "PO ST", "POST\n", "POST\r\n\"@path\": /", "ABCDEFGHIJKLMNOPQ"})
    expect_bad(&Request::method, method);
  for (const std::string& host : {std::string(), std::string("pool\nexample"), std::string("pool example"),
                                  std::string("user@pool"), std::string("pool/x"), std::string("p\"x"),
                                  std::string("p\x80"), std::string("a\0b", 3), std::string(263, 'a')})
    expect_bad(&Request::host, host);
  for (const std::string& path :
       {std::string(), std::string("v1/leases"), std::string("/v1/leases?x=1"), std::string("/v1#x"),
        std::string("/v1/ leases"), std::string("/v1\n"), std::string("/v1\r\n\"content-digest\": x"),
        std::string("/v1\x7f"), std::string("/v1/\xc3\xa4"), std::string("/a\0", 3), "/" + std::string(1024, 'a')})
    expect_bad(&Request::path, path);
}

}  // namespace
}  // namespace protocol
