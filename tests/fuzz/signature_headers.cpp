// Host, path, the three headers and a body, separated by bytes 0xff, to the verification of requests: Error is the only
// way out, and only a true signature gets through.
#include <array>
#include <cstdlib>

#include "protocol/error.h"
#include "protocol/http_signature.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::array<std::string_view, 5> parts;
  for (std::string_view& part : parts) {
    const size_t end = std::min(rest.find('\xff'), rest.size());
    part = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  const auto& [host, path, content_digest, signature_input, signature] = parts;
  const protocol::RequestParts request{
      "POST", host, path, {reinterpret_cast<const uint8_t*>(rest.data()), rest.size()}};
  const protocol::SignatureHeaders headers{std::string(content_digest), std::string(signature_input),
                                           std::string(signature)};
  // The pool and the time of the golden request, which is the seed.
  static const protocol::Digest pool_id =
      protocol::digest_from_hex("34750f98bd59fcfc946da45aaabe933be154a4b5094e1c4abf42866505f3c97e", "pool");
  try {
    const protocol::VerifiedRequest verified = protocol::verify_request(request, headers, pool_id, 1767225600);
    if (!protocol::verify(verified.key, verified.base, verified.signature)) std::abort();
    if (!verified.base.ends_with("\n\"@signature-params\": " + headers.signature_input.substr(5))) std::abort();
  } catch (const protocol::Error&) {
  }
  return 0;
}
