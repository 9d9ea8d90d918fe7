#include "pool_client.h"

#include "log.h"
#include "protocol/json.h"

namespace agent {
namespace {

std::span<const uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

std::string message_of(const std::string& where, const HttpResponse& response) {
  const protocol::ErrorAnswer answer = protocol::error_from_body(response.body);
  if (answer.code == 0) return where + " answered HTTP " + std::to_string(response.status);
  return printable(answer.message) + " (" + printable(answer.name) + ", " + std::to_string(answer.code) + ")";
}

}  // namespace

PoolError::PoolError(const std::string& where, const HttpResponse& response)
    : std::runtime_error(message_of(where, response)),
      status(response.status),
      answer(protocol::error_from_body(response.body)),
      retry_after(response.retry_after) {}

HttpResponse PoolClient::exchange(HttpRequest request) {
  if (!request.cancelled) request.cancelled = cancelled_;
  HttpResponse response = transport_.send(request);
  if (response.status != 200 && response.status != 206) {
    throw PoolError(request.method + " https://" + transport_.authority() + request.path, response);
  }
  return response;
}

nlohmann::json PoolClient::get(const std::string& path) {
  HttpRequest request;
  request.method = "GET";
  request.path = path;
  return protocol::parse_object(exchange(request).body);
}

HttpResponse PoolClient::signed_exchange(HttpRequest request, const char* content_type) {
  for (bool again = false;; again = true) {
    const protocol::SignatureHeaders headers =
        protocol::sign_request({request.method, transport_.authority(), request.path, request.body}, key_, pool_id_,
                               clock_.unix_time() + clock_offset_);
    request.headers = {std::string("Content-Type: ") + content_type, "Content-Digest: " + headers.content_digest,
                       "Signature-Input: " + headers.signature_input, "Signature: " + headers.signature};
    try {
      return exchange(request);
    } catch (const PoolError& error) {
      if (again || !error.is(protocol::ErrorCode::clock_skew)) throw;
      const uint64_t pool_time = protocol::unsigned_member(error.answer.details, "pool_time", protocol::max_time);
      clock_offset_ = static_cast<int64_t>(pool_time) - clock_.unix_time();
    }
  }
}

nlohmann::json PoolClient::post(const std::string& path, const nlohmann::json& body, bool parting) {
  const std::string text = body.dump();
  HttpRequest request;
  request.method = "POST";
  request.path = path;
  request.body = bytes_of(text);
  request.parting = parting;
  return protocol::parse_object(signed_exchange(std::move(request), "application/json").body);
}

protocol::PoolInfo PoolClient::info() { return protocol::pool_info_from_json(get("/v1/pool")); }

void PoolClient::enrol(const protocol::Enrolment& enrolment) { post("/v1/rigs", protocol::to_json(enrolment)); }

protocol::LeaseAnswer PoolClient::lease(const protocol::LeaseRequest& request) {
  return protocol::lease_answer_from_json(post("/v1/leases", protocol::to_json(request)));
}

protocol::RenewalAnswer PoolClient::renew(const std::string& lease, double progress) {
  return protocol::renewal_answer_from_json(
      post("/v1/leases/" + lease + "/renewal", protocol::to_json(protocol::Renewal{progress})));
}

void PoolClient::release(const std::string& lease, const std::string& reason, bool parting) {
  post("/v1/leases/" + lease + "/release", protocol::to_json(protocol::Release{reason}), parting);
}

uint64_t PoolClient::put_piece(const protocol::Digest& blob, uint64_t offset, std::span<const uint8_t> piece) {
  HttpRequest request;
  request.method = "PUT";
  request.path = "/v1/blobs/" + protocol::to_hex(blob) + "/" + std::to_string(offset);
  request.body = piece;
  try {
    const HttpResponse response = signed_exchange(std::move(request), "application/octet-stream");
    return protocol::unsigned_member(protocol::parse_object(response.body), "offset");
  } catch (const PoolError& error) {
    if (!error.is(protocol::ErrorCode::blob_offset)) throw;
    return protocol::unsigned_member(error.answer.details, "offset");
  }
}

protocol::SignedDocument PoolClient::submit(const protocol::Submission& submission) {
  return protocol::signed_document_from_json(post("/v1/submissions", protocol::to_json(submission)), "receipt");
}

std::vector<protocol::SignedDocument> PoolClient::settlements(uint64_t after) {
  return protocol::settlements_from_json(
      get("/v1/settlements/" + protocol::to_hex(key_.public_key()) + "/" + std::to_string(after)));
}

void PoolClient::download(const protocol::BlobReference& blob, uint64_t offset,
                          const std::function<void(int status, std::span<const uint8_t>)>& take,
                          const std::function<bool()>& cancelled) {
  HttpRequest request;
  request.method = "GET";
  request.path = "/v1/blobs/" + protocol::to_hex(blob.digest);
  if (offset > 0) request.headers = {"Range: bytes=" + std::to_string(offset) + "-"};
  request.max_answer_bytes = blob.bytes;
  request.on_body = take;
  request.cancelled = cancelled;
  exchange(request);
}

}  // namespace agent
