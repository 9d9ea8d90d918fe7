// A pool in memory behind a Transport: signatures are verified, blobs are held, leases and faults are scripted.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "protocol/documents.h"
#include "protocol/error.h"
#include "protocol/keys.h"
#include "protocol/messages.h"
#include "transport.h"

namespace fakes {

class FakePool {
 public:
  FakePool();

  std::unique_ptr<agent::Transport> transport();

  // What a test scripts.
  std::deque<protocol::LeaseAnswer> leases;  // handed out in order; then "nothing_to_do"
  std::map<protocol::Digest, std::vector<uint8_t>> published;
  std::vector<protocol::SignedDocument> settlements;
  int64_t now = 1'760'000'000;
  uint64_t piece_bytes = 1000;
  bool wanted = true;
  protocol::Outcome outcome = protocol::Outcome::accepted;
  // Called for each request before it is served; may throw (TransportError) or return an error to answer with.
  std::function<std::optional<protocol::Error>(const agent::HttpRequest&)> before;
  std::function<void(protocol::Receipt&)> edit_receipt;
  // Bytes after which a download is cut once; 0: never.
  uint64_t cut_download_at = 0;
  bool ignore_range = false;

  // What a test looks at.
  std::vector<std::string> calls;  // "POST /v1/leases"
  std::vector<protocol::Submission> submissions;
  std::vector<std::string> releases;
  std::map<protocol::Digest, std::vector<uint8_t>> uploads;
  std::vector<uint64_t> download_offsets;
  std::optional<protocol::Enrolment> enrolment;
  std::optional<protocol::LeaseRequest> lease_request;
  size_t count(const std::string& call_prefix) const;

  protocol::Digest publish(std::vector<uint8_t> bytes);
  protocol::BlobReference publish_reference(std::vector<uint8_t> bytes);
  protocol::PrivateKey key;
  protocol::Digest pool_id{};

  agent::HttpResponse serve(const agent::HttpRequest& request);

 private:
  agent::HttpResponse answer(const agent::HttpRequest& request);
  nlohmann::json post(const std::string& path, const nlohmann::json& body, const protocol::PublicKey& rig);
  agent::HttpResponse download(const agent::HttpRequest& request);
  nlohmann::json put_piece(const agent::HttpRequest& request);
  nlohmann::json submit(const protocol::Submission& submission, const protocol::PublicKey& rig);
  protocol::PublicKey verify(const agent::HttpRequest& request);

  std::recursive_mutex mutex_;
};

}  // namespace fakes
