#include "protocol/http_signature.h"

#include <algorithm>
#include <charconv>

#include "protocol/error.h"
#include "protocol/json.h"

namespace protocol {
namespace {

constexpr int64_t max_lifetime_s = 300;

std::string lowercase(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

bool all_of_set(std::string_view text, std::string_view set) {
  return text.find_first_not_of(set) == std::string_view::npos;
}

// The parts go into the base line by line: whatever could end a line or mean something else is refused here.
void check_parts(const RequestParts& request) {
  const auto refuse = [](const char* what) { throw Error(ErrorCode::bad_request, what); };
  if (request.method.empty() || request.method.size() > 16 || !all_of_set(request.method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    refuse("the method is not one of HTTP's");
  if (request.authority.empty() || request.authority.size() > 262 ||
      !all_of_set(lowercase(request.authority), "abcdefghijklmnopqrstuvwxyz0123456789.-_:[]"))
    refuse("the Host header is not a host name with an optional port");
  if (request.path.empty() || request.path.size() > 1024 || request.path[0] != '/' ||
      std::ranges::any_of(request.path, [](char c) { return c <= ' ' || c >= 0x7f || c == '?' || c == '#'; }))
    refuse("the path is not plain printable ASCII beginning with / and without a query");
}

std::string canonical_authority(std::string_view host) {
  std::string authority = lowercase(host);
  if (authority.ends_with(":443")) authority.resize(authority.size() - 4);
  return authority;
}

// What a Signature-Input of the one allowed form says.
struct Parameters {
  int64_t created = 0, expires = 0;
  std::string nonce, key, pool_id;  // lowercase hex
};

constexpr std::string_view components = R"(("@method" "@authority" "@path" "content-digest"))";

std::string signature_params(const Parameters& p) {
  return std::string(components) + ";created=" + std::to_string(p.created) + ";expires=" + std::to_string(p.expires) +
         ";nonce=\"" + p.nonce + "\";keyid=\"" + p.key + "\";alg=\"ed25519\";tag=\"" + p.pool_id + "\"";
}

[[noreturn]] void malformed(const char* what) { throw Error(ErrorCode::signature_malformed, what); }

// Takes the fields from where the one form has them; the caller compares the text rebuilt from them.
Parameters parse_signature_input(std::string_view text) {
  const auto field = [&](std::string_view name, std::string_view end) {
    const size_t begin = text.find(name);
    if (begin == std::string_view::npos) malformed("Signature-Input lacks a parameter of the required form");
    const size_t value = begin + name.size();
    return text.substr(value, text.find(end, value) - value);
  };
  const auto time = [&](std::string_view name) {
    const std::string_view digits = field(name, ";");
    int64_t value = -1;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || value < 0 || value > max_time) malformed("Signature-Input: created or expires");
    return value;
  };
  const auto hex = [&](std::string_view name, size_t length) {
    const std::string_view value = field(name, "\"");
    if (value.size() != length || !all_of_set(value, "0123456789abcdef"))
      malformed("Signature-Input: nonce, keyid and tag are lowercase hex of 32, 64 and 64 digits");
    return std::string(value);
  };
  Parameters p;
  p.created = time(";created=");
  p.expires = time(";expires=");
  p.nonce = hex(";nonce=\"", 32);
  p.key = hex(";keyid=\"", 64);
  p.pool_id = hex(";tag=\"", 64);
  return p;
}

std::string content_digest_of(std::span<const uint8_t> body) { return "sha-256=:" + base64(sha256(body)) + ":"; }

bool is_content_digest(std::string_view text) {
  constexpr std::string_view prefix = "sha-256=:";
  return text.size() == prefix.size() + 45 && text.starts_with(prefix) && text.ends_with("=:") &&
         all_of_set(text.substr(prefix.size(), 43), "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
}

Signature parse_signature(std::string_view text) {
  constexpr std::string_view prefix = "sig1=:";
  if (text.size() <= prefix.size() || !text.starts_with(prefix) || !text.ends_with(":"))
    malformed("Signature is not sig1=:BASE64:");
  try {
    return signature_from_base64(text.substr(prefix.size(), text.size() - prefix.size() - 1), "Signature");
  } catch (const Error& error) {
    malformed(error.what());
  }
}

std::string signature_base(const RequestParts& request, std::string_view content_digest, const Parameters& p) {
  return "\"@method\": " + std::string(request.method) + "\n\"@authority\": " + canonical_authority(request.authority) +
         "\n\"@path\": " + std::string(request.path) + "\n\"content-digest\": " + std::string(content_digest) +
         "\n\"@signature-params\": " + signature_params(p);
}

void check_times(const Parameters& p, int64_t now) {
  if (p.expires <= p.created || p.expires - p.created > max_lifetime_s)
    malformed("Signature-Input: expires must be 1 to 300 s after created");
  if (p.created > now + max_skew_s)
    throw Error(ErrorCode::clock_skew, "the request was signed " + std::to_string(p.created - now) +
                                           " s in the future by the pool's clock; set the rig's clock");
  if (p.expires < now - max_skew_s)
    throw Error(ErrorCode::clock_skew, "the request's signature expired " + std::to_string(now - p.expires) +
                                           " s ago by the pool's clock; set the rig's clock");
}

}  // namespace

SignatureHeaders sign_request(const RequestParts& request, const PrivateKey& key, const Digest& pool_id, int64_t now,
                              const std::string& nonce) {
  check_parts(request);
  const Parameters p{now, now + max_lifetime_s, nonce, to_hex(key.public_key()), to_hex(pool_id)};
  SignatureHeaders headers;
  headers.content_digest = content_digest_of(request.body);
  headers.signature_input = "sig1=" + signature_params(p);
  headers.signature = "sig1=:" + base64(key.sign(signature_base(request, headers.content_digest, p))) + ":";
  return headers;
}

VerifiedRequest verify_request(const RequestParts& request, const SignatureHeaders& headers, const Digest& pool_id,
                               int64_t now) {
  check_parts(request);
  if (headers.content_digest.empty() || headers.signature_input.empty() || headers.signature.empty())
    throw Error(ErrorCode::signature_missing, "Content-Digest, Signature-Input and Signature are required");

  const Parameters p = parse_signature_input(headers.signature_input);
  if (headers.signature_input != "sig1=" + signature_params(p))
    malformed("Signature-Input is not exactly the form of the protocol");
  if (!is_content_digest(headers.content_digest)) malformed("Content-Digest is not sha-256=:BASE64:");
  VerifiedRequest verified;
  verified.signature = parse_signature(headers.signature);
  verified.key = public_key_from_hex(p.key, "keyid");
  verified.nonce = p.nonce;
  verified.expires = p.expires;
  verified.base = signature_base(request, headers.content_digest, p);

  if (p.pool_id != to_hex(pool_id)) throw Error(ErrorCode::wrong_pool, "the request was signed for another pool");
  check_times(p, now);
  if (headers.content_digest != content_digest_of(request.body))
    throw Error(ErrorCode::content_digest_mismatch, "Content-Digest is not the digest of the body");
  if (!verify(verified.key, verified.base, verified.signature))
    throw Error(ErrorCode::signature_invalid, "the signature does not verify");
  return verified;
}

}  // namespace protocol
