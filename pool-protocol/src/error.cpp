#include "protocol/error.h"

namespace protocol {
namespace {

struct Entry {
  ErrorCode code;
  const char* name;
  int http_status;
};

// The table of docs/protocol.md section 2.1.
constexpr Entry table[] = {
    {ErrorCode::bad_request, "bad_request", 400},
    {ErrorCode::too_large, "too_large", 413},
    {ErrorCode::bad_json, "bad_json", 400},
    {ErrorCode::bad_member, "bad_member", 400},
    {ErrorCode::not_found, "not_found", 404},
    {ErrorCode::method_not_allowed, "method_not_allowed", 405},
    {ErrorCode::signature_missing, "signature_missing", 401},
    {ErrorCode::signature_malformed, "signature_malformed", 401},
    {ErrorCode::signature_invalid, "signature_invalid", 401},
    {ErrorCode::content_digest_mismatch, "content_digest_mismatch", 400},
    {ErrorCode::clock_skew, "clock_skew", 401},
    {ErrorCode::nonce_replayed, "nonce_replayed", 401},
    {ErrorCode::wrong_pool, "wrong_pool", 401},
    {ErrorCode::unknown_key, "unknown_key", 401},
    {ErrorCode::key_revoked, "key_revoked", 403},
    {ErrorCode::duplicate_instance, "duplicate_instance", 409},
    {ErrorCode::account_unknown, "account_unknown", 403},
    {ErrorCode::token_wrong, "token_wrong", 403},
    {ErrorCode::key_taken, "key_taken", 409},
    {ErrorCode::agent_too_old, "agent_too_old", 426},
    {ErrorCode::lease_unknown, "lease_unknown", 404},
    {ErrorCode::result_conflict, "result_conflict", 409},
    {ErrorCode::bad_result, "bad_result", 422},
    {ErrorCode::blob_too_large, "blob_too_large", 413},
    {ErrorCode::blob_offset, "blob_offset", 409},
    {ErrorCode::blob_digest_mismatch, "blob_digest_mismatch", 422},
    {ErrorCode::blob_missing, "blob_missing", 409},
    {ErrorCode::rate_limited, "rate_limited", 429},
    {ErrorCode::overloaded, "overloaded", 503},
    {ErrorCode::internal, "internal", 500},
};

const Entry& entry_of(ErrorCode code) {
  for (const Entry& entry : table)
    if (entry.code == code) return entry;
  throw std::logic_error("no such protocol error: " + std::to_string(static_cast<int>(code)));
}

}  // namespace

const char* name_of(ErrorCode code) { return entry_of(code).name; }

int http_status_of(ErrorCode code) { return entry_of(code).http_status; }

}  // namespace protocol
