#include "fake_pool.h"

#include <algorithm>

#include "protocol/http_signature.h"
#include "protocol/json.h"

namespace fakes {

using agent::HttpRequest;
using agent::HttpResponse;
using protocol::Error;
using protocol::ErrorCode;

namespace {

const std::string authority = "pool.test:8443";

class FakeTransport : public agent::Transport {
 public:
  explicit FakeTransport(FakePool& pool) : pool_(pool) {}
  HttpResponse send(const HttpRequest& request) override { return pool_.serve(request); }
  const std::string& authority() const override { return fakes::authority; }

 private:
  FakePool& pool_;
};

std::string header(const HttpRequest& request, const std::string& name) {
  for (const std::string& line : request.headers) {
    if (line.starts_with(name + ": ")) return line.substr(name.size() + 2);
  }
  return "";
}

std::string body_of(const HttpRequest& request) { return {request.body.begin(), request.body.end()}; }

}  // namespace

FakePool::FakePool() : key(protocol::PrivateKey::generate()), pool_id(protocol::sha256(key.public_key())) {}

std::unique_ptr<agent::Transport> FakePool::transport() { return std::make_unique<FakeTransport>(*this); }

size_t FakePool::count(const std::string& call_prefix) const {
  return static_cast<size_t>(std::count_if(calls.begin(), calls.end(),
                                           [&](const std::string& call) { return call.starts_with(call_prefix); }));
}

protocol::Digest FakePool::publish(std::vector<uint8_t> bytes) {
  const protocol::Digest digest = protocol::sha256(bytes);
  published[digest] = std::move(bytes);
  return digest;
}

protocol::BlobReference FakePool::publish_reference(std::vector<uint8_t> bytes) {
  const uint64_t size = bytes.size();
  return {publish(std::move(bytes)), size};
}

HttpResponse FakePool::serve(const HttpRequest& request) {
  std::lock_guard lock(mutex_);
  calls.push_back(request.method + " " + request.path);
  try {
    if (before) {
      if (std::optional<Error> error = before(request)) throw Error(*error);
    }
    return answer(request);
  } catch (const Error& error) {
    HttpResponse response;
    response.status = protocol::http_status_of(error.code);
    nlohmann::json details = nlohmann::json::object();
    if (error.code == ErrorCode::clock_skew) details["pool_time"] = now;
    if (response.status == 429 || response.status == 503) response.retry_after = 1;
    response.body = protocol::error_to_json(error, details).dump();
    return response;
  }
}

protocol::PublicKey FakePool::verify(const HttpRequest& request) {
  return protocol::verify_request(
             {request.method, authority, request.path, request.body},
             {header(request, "Content-Digest"), header(request, "Signature-Input"), header(request, "Signature")},
             pool_id, now)
      .key;
}

HttpResponse FakePool::answer(const HttpRequest& request) {
  const std::string& path = request.path;
  HttpResponse response;
  response.status = 200;
  if (request.method == "GET" && path == "/v1/pool") {
    response.body =
        protocol::to_json(protocol::PoolInfo{pool_id, {{key.public_key(), {}}}, 1, "fake", "0.1.0", now, piece_bytes})
            .dump();
  } else if (request.method == "GET" && path.starts_with("/v1/blobs/")) {
    return download(request);
  } else if (request.method == "GET" && path.starts_with("/v1/settlements/")) {
    const uint64_t after = std::stoull(path.substr(path.rfind('/') + 1));
    nlohmann::json list = nlohmann::json::array();
    for (const protocol::SignedDocument& document : settlements) {
      if (protocol::settlement_from_canonical(document.document).sequence > after) {
        list.push_back(protocol::to_json(document, "document"));
      }
    }
    response.body = nlohmann::json{{"settlements", list}}.dump();
  } else if (request.method == "PUT") {
    verify(request);
    response.body = put_piece(request).dump();
  } else if (request.method == "POST") {
    const protocol::PublicKey rig = verify(request);
    response.body = post(path, protocol::parse_object(body_of(request)), rig).dump();
  } else {
    throw Error(ErrorCode::not_found, "no such path");
  }
  return response;
}

nlohmann::json FakePool::post(const std::string& path, const nlohmann::json& body, const protocol::PublicKey& rig) {
  if (path == "/v1/rigs") {
    enrolment = protocol::enrolment_from_json(body);
    return {{"rig_id", enrolment->rig_id}, {"account", enrolment->account}};
  }
  if (path == "/v1/leases") {
    lease_request = protocol::lease_request_from_json(body);
    protocol::LeaseAnswer answer;
    if (leases.empty()) {
      answer.none = protocol::NoLease{"nothing_to_do", "all units are out", 5};
    } else {
      answer = leases.front();
      leases.pop_front();
    }
    return protocol::to_json(answer);
  }
  if (path == "/v1/submissions") return submit(protocol::submission_from_json(body), rig);
  if (path.ends_with("/renewal")) return protocol::to_json(protocol::RenewalAnswer{60, 900, wanted});
  if (path.ends_with("/release")) {
    releases.push_back(protocol::release_from_json(body).reason);
    return nlohmann::json::object();
  }
  throw Error(ErrorCode::not_found, "no such path");
}

nlohmann::json FakePool::put_piece(const HttpRequest& request) {
  const size_t slash = request.path.rfind('/');
  const uint64_t offset = std::stoull(request.path.substr(slash + 1));
  std::vector<uint8_t>& held = uploads[protocol::digest_from_hex(request.path.substr(slash - 64, 64), "digest")];
  if (offset == held.size()) held.insert(held.end(), request.body.begin(), request.body.end());
  return {{"offset", held.size()}};
}

nlohmann::json FakePool::submit(const protocol::Submission& submission, const protocol::PublicKey& rig) {
  if (!submission.diverged) {
    const auto upload = uploads.find(submission.result.digest);
    if (upload == uploads.end() || upload->second.size() < submission.result.bytes) {
      throw Error(ErrorCode::blob_missing, "upload it first");
    }
    if (protocol::sha256(upload->second) != submission.result.digest) {
      uploads.erase(upload);
      throw Error(ErrorCode::blob_digest_mismatch, "upload it anew");
    }
  }
  submissions.push_back(submission);
  protocol::Receipt receipt;
  receipt.pool_id = pool_id;
  receipt.unit = submission.unit;
  receipt.job = submission.unit.substr(0, submission.unit.find('.'));
  receipt.round = std::stoull(submission.unit.substr(receipt.job.size() + 1));
  receipt.account = enrolment ? enrolment->account : "ann";
  receipt.attempt = submission.attempt;
  receipt.tokens = submission.tokens;
  receipt.outcome = submission.diverged ? protocol::Outcome::diverged : outcome;
  receipt.price = receipt.outcome == protocol::Outcome::accepted ? 83 : 0;
  receipt.rig = rig;
  receipt.result = submission.diverged ? protocol::sha256(std::string_view()) : submission.result.digest;
  receipt.segments_root = submission.diverged ? protocol::sha256(std::string_view()) : submission.segments_root;
  receipt.time = now;
  if (edit_receipt) edit_receipt(receipt);
  return protocol::to_json(protocol::sign_document(protocol::to_canonical(receipt), key), "receipt");
}

HttpResponse FakePool::download(const HttpRequest& request) {
  const auto blob = published.find(protocol::digest_from_hex(request.path.substr(10), "digest"));
  if (blob == published.end()) throw Error(ErrorCode::not_found, "no such blob");
  uint64_t offset = 0;
  if (const std::string range = header(request, "Range"); !range.empty()) offset = std::stoull(range.substr(6));
  download_offsets.push_back(offset);
  if (ignore_range) offset = 0;
  HttpResponse response;
  response.status = offset > 0 ? 206 : 200;
  const auto bytes = std::span<const uint8_t>(blob->second).subspan(offset);
  if (cut_download_at > 0) {
    const uint64_t sent = std::exchange(cut_download_at, 0);
    request.on_body(response.status, bytes.first(std::min<size_t>(sent, bytes.size())));
    throw agent::TransportError(agent::TransportError::Kind::unreachable, "the line was cut");
  }
  request.on_body(response.status, bytes);
  return response;
}

}  // namespace fakes
