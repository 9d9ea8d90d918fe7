// The protocol's calls as functions, docs/protocol.md sections 2 to 4. Signs what must be signed; after clock_skew it
// takes the pool's time and tries once more.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "clock.h"
#include "protocol/error.h"
#include "protocol/http_signature.h"
#include "protocol/messages.h"
#include "transport.h"

namespace agent {

// The pool answered with an error.
class PoolError : public std::runtime_error {
 public:
  PoolError(const std::string& where, const HttpResponse& response);
  bool is(protocol::ErrorCode code) const { return answer.code == static_cast<int>(code); }
  const int status;
  const protocol::ErrorAnswer answer;  // code 0: not an answer of this protocol
  const std::optional<double> retry_after;
};

// One thread at a time. Every call throws TransportError, PoolError, or protocol::Error for an answer that is not
// what the protocol says.
class PoolClient {
 public:
  PoolClient(Transport& transport, const protocol::PrivateKey& key, const Clock& clock)
      : transport_(transport), key_(key), clock_(clock) {}

  // What signatures are bound to; set before the first signed call.
  void set_pool_id(const protocol::Digest& pool_id) { pool_id_ = pool_id; }
  // Asked about once a second during every call; true ends it with TransportError(cancelled).
  void set_cancelled(std::function<bool()> cancelled) { cancelled_ = std::move(cancelled); }
  // The pool's clock - ours, in seconds; 0 until a clock_skew.
  int64_t clock_offset() const { return clock_offset_; }

  protocol::PoolInfo info();
  void enrol(const protocol::Enrolment& enrolment);
  protocol::LeaseAnswer lease(const protocol::LeaseRequest& request);
  protocol::RenewalAnswer renew(const std::string& lease, double progress);
  // parting: see HttpRequest.
  void release(const std::string& lease, const std::string& reason, bool parting);
  // Returns the bytes that the pool holds: after this piece, or, where the piece left a gap, before it.
  uint64_t put_piece(const protocol::Digest& blob, uint64_t offset, std::span<const uint8_t> piece);
  protocol::SignedDocument submit(const protocol::Submission& submission);
  std::vector<protocol::SignedDocument> settlements(uint64_t after);
  // From `offset` on; take gets the status (200: from the start after all, 206: from offset) and the bytes.
  void download(const protocol::BlobReference& blob, uint64_t offset,
                const std::function<void(int status, std::span<const uint8_t>)>& take,
                const std::function<bool()>& cancelled);

 private:
  HttpResponse exchange(HttpRequest request);
  nlohmann::json get(const std::string& path);
  HttpResponse signed_exchange(HttpRequest request, const char* content_type);
  nlohmann::json post(const std::string& path, const nlohmann::json& body, bool parting = false);

  Transport& transport_;
  const protocol::PrivateKey key_;
  const Clock& clock_;
  protocol::Digest pool_id_{};
  int64_t clock_offset_ = 0;
  std::function<bool()> cancelled_;
};

}  // namespace agent
