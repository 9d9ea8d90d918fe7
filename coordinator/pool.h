// The pool without its network: what the HTTP API, the page and the command line do, on one store.
//
// Every method is one SQLite transaction (BEGIN IMMEDIATE for those that write), so several processes and
// threads may use one folder at once. A Pool object is thread-safe. Refusals are protocol::Error; a store that cannot
// be read or written is std::runtime_error naming the file and the reason, and nothing is changed.
//
// Folder: gradpool.db (SQLite, WAL), pool.key (Ed25519, 0600), blobs/ab/<digest>, uploads/<key>-<digest>,
// temporary/ (files being written).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/documents.h"
#include "protocol/http_signature.h"
#include "protocol/messages.h"

namespace pool {

// The time outside, replaced in tests.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t now() const = 0;  // Unix seconds
};
Clock& system_clock();

struct RigIdentity {
  protocol::PublicKey key{};
  std::string rig_id, account;
};

struct RigStatus {
  RigIdentity identity;
  std::string agent, state;  // "active", "revoked", "barred"
  std::string reason;        // of a revocation or bar
  int64_t enrolled = 0, last_seen = 0;
  double tokens_per_second = 0;  // of its last accepted unit
  uint64_t accepted = 0, rejected = 0;
  uint64_t earned = 0;  // micro-credits, settled and in escrow
};
struct JobStatus {
  protocol::JobDescription description;
  std::string state;  // "running", "paused", "unfunded", "diverged", "completed", "cancelled"
  std::string detail;
  uint64_t rounds_done = 0;
  int64_t created = 0, last_round_closed = 0;
  std::vector<std::pair<uint64_t, float>> validation_loss;  // (weights of round, loss)
  std::vector<std::pair<uint64_t, float>> training_loss;    // (round, mean over its units)
  uint64_t units_accepted = 0, units_rejected = 0, units_out = 0;
  uint64_t checks_done = 0, checks_failed = 0;  // failed: the answers were not all equal
  uint64_t tokens = 0;                          // of accepted train units
  double tokens_per_second = 0;                 // over the last closed rounds
  std::string weights_digest;                   // newest
  uint64_t budget = 0, spent = 0;
  std::map<std::string, uint64_t> earned;  // account -> micro-credits
};
struct PoolStatus {
  std::vector<JobStatus> jobs;
  std::vector<RigStatus> rigs;
  uint64_t bytes_up = 0, bytes_down = 0;     // bodies of pieces taken and blobs sent, since the store was made
  std::map<std::string, uint64_t> refusals;  // error name -> count, since the store was made
};

struct StoreCheck {
  uint64_t files = 0, files_read = 0, bytes_read = 0;
  std::vector<std::string> repairs;   // what was lost, and what was done
  std::vector<std::string> warnings;  // what is lost for good, but no unfinished job needs
};

class Pool {
 public:
  // Opens or creates the folder. Throws std::runtime_error (unreadable, newer schema, disk full, …).
  Pool(const std::filesystem::path& folder, Clock& clock);
  ~Pool();

  // Checks and repairs the store (store_check.h). Once, before anything is served.
  StoreCheck check_store();

  // --- what rigs ask (docs/protocol.md) ---
  protocol::Digest pool_id() const;
  protocol::PoolInfo info() const;
  void enrol(const protocol::VerifiedRequest& request, const protocol::Enrolment& enrolment);
  // The enrolled, active rig behind a verified request; takes its nonce.
  RigIdentity admit(const protocol::VerifiedRequest& request);
  protocol::LeaseAnswer lease(const RigIdentity& rig, const protocol::LeaseRequest& request);
  protocol::RenewalAnswer renew(const RigIdentity& rig, const std::string& lease, const protocol::Renewal& renewal);
  void release(const RigIdentity& rig, const std::string& lease, const protocol::Release& release);
  // Returns the bytes held afterwards. A gap is Error(blob_offset); the answer's offset is in held_bytes().
  uint64_t put_piece(const RigIdentity& rig, const protocol::Digest& digest, uint64_t offset,
                     std::span<const uint8_t> piece);
  uint64_t held_bytes(const RigIdentity& rig, const protocol::Digest& digest) const;
  // evidence and body (the request's exact bytes, which the signature covers) are stored word for word.
  protocol::SignedDocument submit(const RigIdentity& rig, const protocol::Submission& submission,
                                  const protocol::VerifiedRequest& evidence, std::string_view body);
  std::vector<protocol::SignedDocument> settlements(const protocol::PublicKey& rig, uint64_t after) const;
  protocol::SignedDocument job(const std::string& job) const;
  protocol::SignedDocument record(const std::string& job, uint64_t round) const;
  // File of a published blob (shard, checkpoint, update, initial weights); nothing else is ever served.
  std::optional<std::filesystem::path> published_blob(const protocol::Digest& digest) const;

  // --- the pool's own work, called by one background thread of `serve` ---
  // Closes at most one finished round: aggregates, publishes update, checkpoint and record, settles, opens the next.
  // Returns whether it did anything. Safe to repeat after a crash at any point.
  bool advance();

  // --- for people ---
  PoolStatus status() const;
  void count_traffic(uint64_t bytes_up, uint64_t bytes_down);
  void count_refusal(const std::string& error_name, uint64_t count = 1);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pool
