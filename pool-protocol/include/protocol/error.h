// Numeric protocol errors, docs/protocol.md section 2.1.
#pragma once

#include <stdexcept>
#include <string>

namespace protocol {

enum class ErrorCode : int {
  bad_request = 1000,
  too_large = 1001,
  bad_json = 1002,
  bad_member = 1003,
  not_found = 1004,
  method_not_allowed = 1005,
  signature_missing = 1100,
  signature_malformed = 1101,
  signature_invalid = 1102,
  content_digest_mismatch = 1103,
  clock_skew = 1104,
  nonce_replayed = 1105,
  wrong_pool = 1106,
  unknown_key = 1107,
  key_revoked = 1108,
  duplicate_instance = 1109,
  account_unknown = 1200,
  token_wrong = 1201,
  key_taken = 1202,
  agent_too_old = 1203,
  lease_unknown = 1300,
  result_conflict = 1301,
  bad_result = 1302,
  blob_too_large = 1400,
  blob_offset = 1401,
  blob_digest_mismatch = 1402,
  blob_missing = 1403,
  rate_limited = 1600,
  overloaded = 1601,
  internal = 1900,
};

// The table's name and HTTP status of a code.
const char* name_of(ErrorCode code);
int http_status_of(ErrorCode code);

// A refusal with its code. what() is the message for a person.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode error_code, const std::string& message) : std::runtime_error(message), code(error_code) {}
  const ErrorCode code;
};

}  // namespace protocol
