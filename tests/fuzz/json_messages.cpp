// Any text to every parser of messages: Error is the only way out, and what is accepted survives being written again.
#include <cstdlib>
#include <string_view>

#include "protocol/json.h"
#include "protocol/messages.h"

namespace {

using nlohmann::json;

template <class Parse>
void check(const json& message, Parse parse) {
  json written;
  try {
    written = protocol::to_json(parse(message));
  } catch (const protocol::Error&) {
    return;
  }
  if (protocol::to_json(parse(protocol::parse_object(written.dump(), SIZE_MAX))) != written) std::abort();
}

void check_document(const json& message, const char* text_key) {
  try {
    const auto document = protocol::signed_document_from_json(message, text_key);
    if (protocol::to_json(document, text_key)[text_key] != message[text_key]) std::abort();
  } catch (const protocol::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (json(protocol::error_from_body(text).message).dump().empty()) std::abort();  // dump() throws unless UTF-8
  json message;
  try {
    message = protocol::parse_object(text);
  } catch (const protocol::Error& error) {
    if (json(error.what()).dump().empty()) std::abort();
    return 0;
  }
  check(message, protocol::pool_info_from_json);
  check(message, protocol::enrolment_from_json);
  check(message, protocol::lease_request_from_json);
  check(message, protocol::unit_from_json);
  check(message, protocol::lease_answer_from_json);
  check(message, protocol::renewal_from_json);
  check(message, protocol::renewal_answer_from_json);
  check(message, protocol::release_from_json);
  check(message, protocol::submission_from_json);
  check_document(message, "receipt");
  check_document(message, "document");
  try {
    protocol::settlements_from_json(message);
  } catch (const protocol::Error&) {
  }
  return 0;
}
