// The control messages of docs/protocol.md section 4: plain structs, to_json and from_json.
// from_json functions throw Error(bad_member) and ignore unknown members.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/digest.h"
#include "protocol/error.h"
#include "protocol/keys.h"

namespace protocol {

// Bounds that from_json holds, docs/protocol.md section 4.2. Whatever is counted below them can be multiplied and added
// in 64 bits where the code does so.
constexpr uint64_t max_rounds = 1'000'000'000;
constexpr uint64_t max_units_per_round = 65'536;
constexpr uint64_t max_lanes = 65'536;  // of a unit
constexpr uint64_t max_steps = 100'000;
constexpr uint64_t max_batch = 1 << 20;
constexpr uint64_t max_context = 1 << 20;
constexpr uint64_t max_parameters = uint64_t{1} << 40;
constexpr uint64_t max_blob_bytes = uint64_t{1} << 50;
constexpr size_t max_shards = 65'536;
constexpr size_t max_updates = 4'096;
constexpr size_t max_held = 1'024;
constexpr size_t max_working = 64;       // leases that a request names
constexpr size_t max_capabilities = 64;  // entries of profiles, codecs and kinds each
constexpr size_t max_public_keys = 64;
constexpr size_t max_settlements = 500;

struct PoolKey {
  PublicKey key{};
  std::optional<Signature> signature;  // of the key before it
};
struct PoolInfo {
  Digest pool_id{};
  std::vector<PoolKey> public_keys;  // the last one signs
  uint64_t protocol = 1;
  std::string software;
  std::string minimum_agent;
  int64_t time = 0;
  uint64_t max_piece_bytes = 1 << 20;
};

struct PreviousKey {
  PublicKey key{};
  Signature signature{};
};
struct Enrolment {
  std::string account, token, rig_id, agent;
  std::optional<PreviousKey> previous;
};

struct HeldWeights {
  std::string job;
  uint64_t round = 0;
};
struct LeaseRequest {
  std::string request_id, instance, agent;
  std::vector<std::string> profiles, codecs, kinds;
  uint64_t memory_bytes = 0;
  double flops = 0;
  std::vector<HeldWeights> held;
  std::vector<std::string> leases;  // that the agent works on already
};

struct BlobReference {
  Digest digest{};
  uint64_t bytes = 0;
};
struct CheckpointReference {
  uint64_t round = 0;
  BlobReference blob;
};
struct UpdateReference {
  uint64_t round = 0;  // turns the weights of this round into the next round's
  BlobReference blob;
  Digest weights{};  // after it
};
struct WeightsSource {
  uint64_t round = 0;
  Digest digest{};
  std::optional<CheckpointReference> checkpoint;
  std::vector<UpdateReference> updates;
};
struct ShardReference {
  BlobReference blob;
  uint64_t tokens = 0;
};

enum class UnitKind { train, evaluate };
const char* to_string(UnitKind kind);

struct AdamWStepNumbers {
  float decay = 1, step_size = 0, inv_sqrt_bc2 = 1;
};
struct InnerAdamW {
  float beta1 = 0, one_minus_beta1 = 0, beta2 = 0, one_minus_beta2 = 0, epsilon = 0, max_grad_norm = 0;
  std::vector<AdamWStepNumbers> steps;
};

struct Unit {
  std::string name;  // "unit"; equals unit_name(job, round, kind, index), checked by from_json
  std::string job;
  uint64_t round = 0, index = 0;
  UnitKind kind = UnitKind::train;
  std::string profile, codec;
  nlohmann::json model;  // Hugging Face config, checked by kernels::parse_model_config
  uint64_t parameters = 0;
  uint64_t base_round = 0;
  WeightsSource weights;
  uint64_t first_lane = 0, lanes = 1;
  std::vector<ShardReference> shards;
  uint64_t seed = 0;
  uint64_t steps = 1, batch = 0, context = 0;
  std::optional<InnerAdamW> inner;
  uint64_t tokens = 0;
  uint64_t price = 0;  // micro-credits
  uint64_t max_result_bytes = 0;
};
std::string unit_name(const std::string& job, uint64_t round, UnitKind kind, uint64_t index);

// What a unit's name says, or nothing where the text is not a unit's name.
struct UnitName {
  std::string job;
  uint64_t round = 0, index = 0;
  UnitKind kind = UnitKind::train;
};
std::optional<UnitName> parse_unit_name(std::string_view text);

struct Lease {
  std::string lease;
  uint64_t attempt = 0;
  uint64_t renew_s = 60, deadline_s = 0;
  Unit unit;
};
struct NoLease {
  std::string reason, message;
  uint64_t retry_after_s = 5;
};
struct LeaseAnswer {  // exactly one is set
  std::optional<Lease> lease;
  std::optional<NoLease> none;
};

struct Renewal {
  double progress = 0;
};
struct RenewalAnswer {
  uint64_t renew_s = 0, deadline_s = 0;
  bool wanted = true;
};
struct Release {
  std::string reason;
};

struct Submission {
  std::string lease, unit;
  uint64_t attempt = 0;
  bool diverged = false;  // outcome
  // outcome "done"
  BlobReference result;
  Digest segments_root{};
  float loss = 0;
  uint64_t tokens = 0;
  double seconds = 0;
  // outcome "diverged"
  std::string tensor;
  uint64_t step = 0;
};

// A document (receipt, settlement, record, job description): exact bytes and the pool's signature over them.
struct SignedDocument {
  std::string document;
  Signature signature{};
};

nlohmann::json to_json(const PoolInfo&);
nlohmann::json to_json(const Enrolment&);
nlohmann::json to_json(const LeaseRequest&);
nlohmann::json to_json(const Unit&);
nlohmann::json to_json(const LeaseAnswer&);
nlohmann::json to_json(const Renewal&);
nlohmann::json to_json(const RenewalAnswer&);
nlohmann::json to_json(const Release&);
nlohmann::json to_json(const Submission&);
nlohmann::json to_json(const SignedDocument&, const char* text_key);  // "receipt" or "document"

// Settlements: {"settlements": [{"document", "signature"}, …]}, at most max_settlements.
nlohmann::json settlements_to_json(const std::vector<SignedDocument>&);

// Checks that pool_id belongs to the first key and that each later key is signed by the one before it.
PoolInfo pool_info_from_json(const nlohmann::json&);
Enrolment enrolment_from_json(const nlohmann::json&);
LeaseRequest lease_request_from_json(const nlohmann::json&);
// Checks also what follows from other members: the name, tokens, the chain of updates, shards per lane, inner's steps.
Unit unit_from_json(const nlohmann::json&);
LeaseAnswer lease_answer_from_json(const nlohmann::json&);
Renewal renewal_from_json(const nlohmann::json&);
RenewalAnswer renewal_answer_from_json(const nlohmann::json&);
Release release_from_json(const nlohmann::json&);
Submission submission_from_json(const nlohmann::json&);
SignedDocument signed_document_from_json(const nlohmann::json&, const char* text_key);
std::vector<SignedDocument> settlements_from_json(const nlohmann::json&);

// The error object of section 2, its message made printable; `details` are further members of "error" (pool_time,
// offset, minimum).
nlohmann::json error_to_json(const Error& error, const nlohmann::json& details = nlohmann::json::object());
struct ErrorAnswer {
  int code = 0;
  std::string name, message;
  nlohmann::json details;  // the whole "error" object
};
// Never throws: something that is no error object becomes code 0 with the text (cut) as its message.
ErrorAnswer error_from_body(std::string_view body);

}  // namespace protocol
