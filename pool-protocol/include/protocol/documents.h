// Signed documents of docs/protocol.md section 5: canonical JSON both ways.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "protocol/messages.h"

namespace protocol {

enum class Outcome { accepted, superseded, diverged };

struct Receipt {
  Digest pool_id{};
  std::string job, unit, account;
  uint64_t round = 0, attempt = 0, tokens = 0, price = 0;
  PublicKey rig{};
  Digest result{}, segments_root{};
  Outcome outcome = Outcome::accepted;
  int64_t time = 0;  // Unix seconds
};
struct Settlement {
  Digest pool_id{};
  uint64_t sequence = 0, attempt = 0, amount = 0;
  Digest receipt{};
  std::string account, unit, reason;
  PublicKey rig{};
  bool settled = true;  // false: voided
  int64_t time = 0;
};
struct RoundRecord {
  Digest pool_id{};
  std::string job;
  uint64_t round = 0, tokens = 0;
  Digest job_digest{}, previous{}, units_root{}, weights{}, state{};
  BlobReference update;
  CheckpointReference checkpoint;
  int64_t time = 0;
};

struct InnerSettings {  // of the job; the unit carries the numbers that follow from it
  double lr = 0, beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0, max_grad_norm = 0;
  uint64_t warmup_steps = 0;  // lr rises linearly over the job's first local steps, then is constant
};
struct OuterSettings {
  std::string name;  // "nesterov" or "adamw"
  double lr = 0;
  double momentum = 0;                                                 // nesterov
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8, weight_decay = 0;  // adamw
  uint64_t warmup_rounds = 0;
};
struct JobDescription {
  Digest pool_id{};
  std::string job, profile, codec;
  nlohmann::json model;
  uint64_t parameters = 0;
  std::vector<ShardReference> train, validation;
  uint64_t rounds = 0, units_per_round = 0, lanes_per_unit = 0, steps = 0, batch = 0, context = 0, seed = 0;
  std::optional<InnerSettings> inner;  // empty: steps is 1, the result is the gradient
  OuterSettings outer;
  double clip_norm = 0;                            // 0: none
  uint64_t evaluate_every = 1, evaluate_rows = 0;  // rounds between evaluate units; rows of one
  uint64_t check_share_ppm = 30000;
  uint64_t price = 0;                            // micro-credits per 10^9 floating-point operations
  uint64_t price_train = 0, price_evaluate = 0;  // per unit
  BlobReference initial_weights;
};

std::string to_canonical(const Receipt&);
std::string to_canonical(const Settlement&);
std::string to_canonical(const RoundRecord&);
std::string to_canonical(const JobDescription&);
Receipt receipt_from_canonical(std::string_view text);
Settlement settlement_from_canonical(std::string_view text);
RoundRecord round_record_from_canonical(std::string_view text);
JobDescription job_from_canonical(std::string_view text);

SignedDocument sign_document(std::string text, const PrivateKey& key);
bool verify_document(const SignedDocument& document, const PublicKey& key);

}  // namespace protocol
