#include "protocol/documents.h"

#include "parts.h"
#include "protocol/json.h"

namespace protocol {
namespace {

using nlohmann::json;

constexpr uint64_t document_version = 1;
constexpr double max_rate = 1e6;  // of learning rates, decays and norms: keeps what follows from them finite in fp32

const char* to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::accepted:
      return "accepted";
    case Outcome::superseded:
      return "superseded";
    case Outcome::diverged:
      return "diverged";
  }
  throw std::logic_error("no such outcome");
}

Outcome read_outcome(const Reader& reader) {
  const std::string text = reader.string(16);
  for (const Outcome outcome : {Outcome::accepted, Outcome::superseded, Outcome::diverged})
    if (text == to_string(outcome)) return outcome;
  reader.refuse("must be \"accepted\", \"superseded\" or \"diverged\"");
}

// nlohmann's objects are sorted bytewise, and dump() writes no white space: that is canonical.
std::string canonical(const json& document) { return document.dump(); }

void check_type(const Reader& reader, const char* type) {
  if (reader["type"].string(16) != type) reader["type"].refuse(std::string("must be \"") + type + "\"");
  reader["version"].unsigned_integer(document_version, document_version);
}

// Of a document of integers and strings there is one text only.
json parse_canonical(std::string_view text) {
  json document = parse_object(text);
  if (canonical(document) != text) throw Error(ErrorCode::bad_json, "the document is not canonical JSON");
  return document;
}

// The unit's name, which must be of the given job and round where the document says them.
UnitName read_unit_of(const Reader& reader) {
  const UnitName name = read_unit_name(reader["unit"]);
  if (reader["job"].job_name() != name.job || reader["round"].unsigned_integer(max_rounds) != name.round)
    reader["unit"].refuse("is not of the document's job and round");
  return name;
}

json to_json(const InnerSettings& inner) {
  return {{"name", "adamw"},
          {"lr", inner.lr},
          {"beta1", inner.beta1},
          {"beta2", inner.beta2},
          {"epsilon", inner.epsilon},
          {"weight_decay", inner.weight_decay},
          {"max_grad_norm", inner.max_grad_norm},
          {"warmup_steps", inner.warmup_steps}};
}

json to_json(const OuterSettings& outer) {
  json result = {{"name", outer.name}, {"lr", outer.lr}, {"warmup_rounds", outer.warmup_rounds}};
  if (outer.name == "nesterov")
    result["momentum"] = outer.momentum;
  else
    result.update({{"beta1", outer.beta1},
                   {"beta2", outer.beta2},
                   {"epsilon", outer.epsilon},
                   {"weight_decay", outer.weight_decay}});
  return result;
}

double read_beta(const Reader& reader) {
  const double beta = reader.number(0, 1);
  if (beta == 1) reader.refuse("must be less than 1");
  return beta;
}

double read_epsilon(const Reader& reader) {
  const double epsilon = reader.number(0, 1);
  if (static_cast<float>(epsilon) == 0) reader.refuse("must be more than 0 in fp32");
  return epsilon;
}

InnerSettings read_inner(const Reader& reader) {
  if (reader["name"].string(16) != "adamw") reader["name"].refuse("must be \"adamw\"");
  InnerSettings inner;
  inner.lr = reader["lr"].number(0, max_rate);
  inner.beta1 = read_beta(reader["beta1"]);
  inner.beta2 = read_beta(reader["beta2"]);
  inner.epsilon = read_epsilon(reader["epsilon"]);
  inner.weight_decay = reader["weight_decay"].number(0, max_rate);
  inner.max_grad_norm = reader["max_grad_norm"].number(0, max_rate);
  inner.warmup_steps = reader["warmup_steps"].unsigned_integer(max_rounds * max_steps);
  return inner;
}

OuterSettings read_outer(const Reader& reader) {
  OuterSettings outer;
  outer.name = reader["name"].string(16);
  outer.lr = reader["lr"].number(0, max_rate);
  outer.warmup_rounds = reader["warmup_rounds"].unsigned_integer(max_rounds);
  if (outer.name == "nesterov") {
    outer.momentum = read_beta(reader["momentum"]);
  } else if (outer.name == "adamw") {
    outer.beta1 = read_beta(reader["beta1"]);
    outer.beta2 = read_beta(reader["beta2"]);
    outer.epsilon = read_epsilon(reader["epsilon"]);
    outer.weight_decay = reader["weight_decay"].number(0, max_rate);
  } else {
    reader["name"].refuse("must be \"nesterov\" or \"adamw\"");
  }
  return outer;
}

}  // namespace

std::string to_canonical(const Receipt& receipt) {
  return canonical({{"type", "receipt"},
                    {"version", document_version},
                    {"pool_id", to_hex(receipt.pool_id)},
                    {"job", receipt.job},
                    {"round", receipt.round},
                    {"unit", receipt.unit},
                    {"attempt", receipt.attempt},
                    {"rig", to_hex(receipt.rig)},
                    {"account", receipt.account},
                    {"result", to_hex(receipt.result)},
                    {"segments_root", to_hex(receipt.segments_root)},
                    {"tokens", receipt.tokens},
                    {"price", amount(receipt.price)},
                    {"outcome", to_string(receipt.outcome)},
                    {"time", receipt.time}});
}

Receipt receipt_from_canonical(std::string_view text) {
  const json document = parse_canonical(text);
  const Reader reader(document);
  check_type(reader, "receipt");
  Receipt receipt;
  receipt.pool_id = reader["pool_id"].digest();
  receipt.job = reader["job"].job_name();
  receipt.round = read_unit_of(reader).round;
  receipt.unit = reader["unit"].string(64);
  receipt.attempt = reader["attempt"].unsigned_integer(max_integer);
  receipt.rig = reader["rig"].digest();
  receipt.account = reader["account"].name();
  receipt.result = reader["result"].digest();
  receipt.segments_root = reader["segments_root"].digest();
  receipt.tokens = reader["tokens"].unsigned_integer(max_integer);
  receipt.price = reader["price"].decimal(max_integer);
  receipt.outcome = read_outcome(reader["outcome"]);
  receipt.time = reader["time"].time();
  if (receipt.outcome != Outcome::accepted && receipt.price != 0) reader["price"].refuse("must be \"0\"");
  return receipt;
}

std::string to_canonical(const Settlement& settlement) {
  return canonical({{"type", "settlement"},
                    {"version", document_version},
                    {"pool_id", to_hex(settlement.pool_id)},
                    {"sequence", settlement.sequence},
                    {"receipt", to_hex(settlement.receipt)},
                    {"unit", settlement.unit},
                    {"attempt", settlement.attempt},
                    {"rig", to_hex(settlement.rig)},
                    {"account", settlement.account},
                    {"amount", amount(settlement.amount)},
                    {"outcome", settlement.settled ? "settled" : "voided"},
                    {"reason", printable(settlement.reason, max_reason_length)},
                    {"time", settlement.time}});
}

Settlement settlement_from_canonical(std::string_view text) {
  const json document = parse_canonical(text);
  const Reader reader(document);
  check_type(reader, "settlement");
  Settlement settlement;
  settlement.pool_id = reader["pool_id"].digest();
  settlement.sequence = reader["sequence"].unsigned_integer(max_integer);
  settlement.receipt = reader["receipt"].digest();
  read_unit_name(reader["unit"]);
  settlement.unit = reader["unit"].string(64);
  settlement.attempt = reader["attempt"].unsigned_integer(max_integer);
  settlement.rig = reader["rig"].digest();
  settlement.account = reader["account"].name();
  settlement.amount = reader["amount"].decimal(max_integer);
  settlement.reason = reader["reason"].string(max_reason_length);
  settlement.time = reader["time"].time();
  const std::string outcome = reader["outcome"].string(16);
  if (outcome != "settled" && outcome != "voided") reader["outcome"].refuse("must be \"settled\" or \"voided\"");
  settlement.settled = outcome == "settled";
  return settlement;
}

std::string to_canonical(const RoundRecord& record) {
  return canonical({{"type", "round"},
                    {"version", document_version},
                    {"pool_id", to_hex(record.pool_id)},
                    {"job", record.job},
                    {"job_digest", to_hex(record.job_digest)},
                    {"round", record.round},
                    {"previous", to_hex(record.previous)},
                    {"units_root", to_hex(record.units_root)},
                    {"update", to_json(record.update)},
                    {"weights", to_hex(record.weights)},
                    {"state", to_hex(record.state)},
                    {"checkpoint", to_json(record.checkpoint)},
                    {"tokens", record.tokens},
                    {"time", record.time}});
}

RoundRecord round_record_from_canonical(std::string_view text) {
  const json document = parse_canonical(text);
  const Reader reader(document);
  check_type(reader, "round");
  RoundRecord record;
  record.pool_id = reader["pool_id"].digest();
  record.job = reader["job"].job_name();
  record.job_digest = reader["job_digest"].digest();
  record.round = reader["round"].unsigned_integer(max_rounds);
  record.previous = reader["previous"].digest();
  record.units_root = reader["units_root"].digest();
  record.update = read_blob(reader["update"]);
  record.weights = reader["weights"].digest();
  record.state = reader["state"].digest();
  record.checkpoint = read_checkpoint(reader["checkpoint"]);
  record.tokens = reader["tokens"].unsigned_integer(max_integer);
  record.time = reader["time"].time();
  return record;
}

std::string to_canonical(const JobDescription& job) {
  return canonical({{"type", "job"},
                    {"version", document_version},
                    {"pool_id", to_hex(job.pool_id)},
                    {"job", job.job},
                    {"profile", job.profile},
                    {"codec", job.codec},
                    {"model", job.model},
                    {"parameters", job.parameters},
                    {"initial_weights", to_json(job.initial_weights)},
                    {"train", to_json(job.train)},
                    {"validation", to_json(job.validation)},
                    {"rounds", job.rounds},
                    {"units_per_round", job.units_per_round},
                    {"lanes_per_unit", job.lanes_per_unit},
                    {"steps", job.steps},
                    {"batch", job.batch},
                    {"context", job.context},
                    {"seed", amount(job.seed)},
                    {"inner", job.inner ? to_json(*job.inner) : json(nullptr)},
                    {"outer", to_json(job.outer)},
                    {"clip_norm", job.clip_norm},
                    {"evaluate_every", job.evaluate_every},
                    {"evaluate_rows", job.evaluate_rows},
                    {"check_share_ppm", job.check_share_ppm},
                    {"price", amount(job.price)},
                    {"price_train", amount(job.price_train)},
                    {"price_evaluate", amount(job.price_evaluate)}});
}

JobDescription job_from_canonical(std::string_view text) {
  const json document = parse_object(text);
  const Reader reader(document);
  check_type(reader, "job");
  JobDescription job;
  job.pool_id = reader["pool_id"].digest();
  job.job = reader["job"].job_name();
  job.profile = reader["profile"].name_list_entry();
  job.codec = reader["codec"].name_list_entry();
  job.model = reader["model"].object();
  job.parameters = reader["parameters"].unsigned_integer(max_parameters, 1);
  job.initial_weights = read_blob(reader["initial_weights"]);
  job.rounds = reader["rounds"].unsigned_integer(max_rounds, 1);
  job.units_per_round = reader["units_per_round"].unsigned_integer(max_units_per_round, 1);
  job.lanes_per_unit = reader["lanes_per_unit"].unsigned_integer(max_lanes, 1);
  job.steps = reader["steps"].unsigned_integer(max_steps, 1);
  job.batch = reader["batch"].unsigned_integer(max_batch, 1);
  job.context = reader["context"].unsigned_integer(max_context, 1);
  job.train = read_shards(reader["train"], job.context);
  job.validation = read_shards(reader["validation"], job.context);
  job.seed = reader["seed"].decimal(UINT64_MAX);
  if (const Reader inner = reader["inner"]; reader.has("inner")) job.inner = read_inner(inner);
  if (job.inner.has_value() != (job.steps > 1)) reader["inner"].refuse("must be null if, and only if, steps is 1");
  job.outer = read_outer(reader["outer"]);
  job.clip_norm = reader["clip_norm"].number(0, max_rate);
  job.evaluate_every = reader["evaluate_every"].unsigned_integer(max_rounds, 1);
  job.evaluate_rows = reader["evaluate_rows"].unsigned_integer(max_batch, 1);
  job.check_share_ppm = reader["check_share_ppm"].unsigned_integer(1'000'000);
  job.price = reader["price"].decimal(max_integer);
  job.price_train = reader["price_train"].decimal(max_integer);
  job.price_evaluate = reader["price_evaluate"].decimal(max_integer);
  return job;
}

SignedDocument sign_document(std::string text, const PrivateKey& key) {
  const Signature signature = key.sign(text);
  return {std::move(text), signature};
}

bool verify_document(const SignedDocument& document, const PublicKey& key) {
  return verify(key, document.document, document.signature);
}

}  // namespace protocol
