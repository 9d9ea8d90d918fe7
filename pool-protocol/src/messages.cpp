#include "protocol/messages.h"

#include "parts.h"
#include "protocol/json.h"

namespace protocol {
namespace {

using nlohmann::json;

constexpr uint64_t max_seconds = 10'000'000;         // of renew_s, deadline_s, retry_after_s: four months
constexpr uint64_t max_piece_bytes_limit = 1 << 26;  // 64 MiB
constexpr size_t max_version_length = 64, max_token_length = 256, max_message_length = 1024;

std::vector<std::string> read_capabilities(const Reader& reader) {
  std::vector<std::string> names;
  const size_t count = reader.size(max_capabilities);
  for (size_t i = 0; i < count; ++i) names.push_back(reader.at(i).name_list_entry());
  return names;
}

PoolKey read_pool_key(const Reader& reader) {
  PoolKey key{reader["key"].digest(), {}};
  if (reader.has("signature")) key.signature = reader["signature"].signature();
  return key;
}

void check_key_chain(const PoolInfo& info, const Reader& keys, const Reader& pool_id) {
  if (sha256(info.public_keys[0].key) != info.pool_id) pool_id.refuse("is not the digest of the first public key");
  for (size_t i = 1; i < info.public_keys.size(); ++i) {
    const PoolKey& key = info.public_keys[i];
    if (!key.signature || !verify(info.public_keys[i - 1].key, rotation_message(info.pool_id, key.key), *key.signature))
      keys.at(i).refuse("is not signed by the key before it");
  }
}

SignedDocument read_signed_document(const Reader& reader, const char* text_key) {
  return {reader[text_key].string(max_json_bytes), reader["signature"].signature()};
}

NoLease read_no_lease(const Reader& reader) {
  NoLease none;
  none.reason = reader["reason"].name_list_entry();
  none.message = reader["message"].string(max_message_length);
  none.retry_after_s = reader["retry_after_s"].unsigned_integer(max_seconds);
  return none;
}

Lease read_lease(const Reader& reader) {
  Lease lease;
  lease.lease = reader["lease"].hex16();
  lease.attempt = reader["attempt"].unsigned_integer(max_integer);
  lease.renew_s = reader["renew_s"].unsigned_integer(max_seconds, 1);
  lease.deadline_s = reader["deadline_s"].unsigned_integer(max_seconds);
  lease.unit = read_unit(reader["unit"]);
  return lease;
}

}  // namespace

json to_json(const PoolInfo& info) {
  json keys = json::array();
  for (const PoolKey& key : info.public_keys) {
    json entry = {{"key", to_hex(key.key)}};
    if (key.signature) entry["signature"] = base64(*key.signature);
    keys.push_back(std::move(entry));
  }
  return {{"pool_id", to_hex(info.pool_id)},
          {"public_keys", std::move(keys)},
          {"protocol", info.protocol},
          {"software", info.software},
          {"minimum_agent", info.minimum_agent},
          {"time", info.time},
          {"max_piece_bytes", info.max_piece_bytes}};
}

PoolInfo pool_info_from_json(const json& message) {
  const Reader reader(message);
  PoolInfo info;
  info.pool_id = reader["pool_id"].digest();
  const Reader keys = reader["public_keys"];
  const size_t count = keys.size(max_public_keys);
  if (count == 0) keys.refuse("must not be empty");
  for (size_t i = 0; i < count; ++i) info.public_keys.push_back(read_pool_key(keys.at(i)));
  check_key_chain(info, keys, reader["pool_id"]);
  info.protocol = reader["protocol"].unsigned_integer(max_integer);
  info.software = reader["software"].string(max_version_length);
  info.minimum_agent = reader["minimum_agent"].string(max_version_length);
  info.time = reader["time"].time();
  info.max_piece_bytes = reader["max_piece_bytes"].unsigned_integer(max_piece_bytes_limit, 1);
  return info;
}

json to_json(const Enrolment& enrolment) {
  json message = {{"account", enrolment.account},
                  {"token", enrolment.token},
                  {"rig_id", enrolment.rig_id},
                  {"agent", enrolment.agent}};
  if (enrolment.previous)
    message["previous"] = {{"key", to_hex(enrolment.previous->key)},
                           {"signature", base64(enrolment.previous->signature)}};
  return message;
}

Enrolment enrolment_from_json(const json& message) {
  const Reader reader(message);
  Enrolment enrolment;
  enrolment.account = reader["account"].name();
  enrolment.token = reader["token"].string(max_token_length);
  enrolment.rig_id = reader["rig_id"].name();
  enrolment.agent = reader["agent"].string(max_version_length);
  if (reader.has("previous")) {
    const Reader previous = reader["previous"];
    enrolment.previous = PreviousKey{previous["key"].digest(), previous["signature"].signature()};
  }
  return enrolment;
}

json to_json(const LeaseRequest& request) {
  json held = json::array();
  for (const HeldWeights& weights : request.held) held.push_back({{"job", weights.job}, {"round", weights.round}});
  return {{"request_id", request.request_id},
          {"instance", request.instance},
          {"agent", request.agent},
          {"profiles", request.profiles},
          {"codecs", request.codecs},
          {"kinds", request.kinds},
          {"memory_bytes", request.memory_bytes},
          {"flops", request.flops},
          {"held", std::move(held)},
          {"leases", request.leases}};
}

LeaseRequest lease_request_from_json(const json& message) {
  const Reader reader(message);
  LeaseRequest request;
  request.request_id = reader["request_id"].hex16();
  request.instance = reader["instance"].hex16();
  request.agent = reader["agent"].string(max_version_length);
  request.profiles = read_capabilities(reader["profiles"]);
  request.codecs = read_capabilities(reader["codecs"]);
  request.kinds = read_capabilities(reader["kinds"]);
  request.memory_bytes = reader["memory_bytes"].unsigned_integer(max_integer);
  request.flops = reader["flops"].number(0, 1e24);
  const Reader held = reader["held"];
  const size_t count = held.size(max_held);
  for (size_t i = 0; i < count; ++i) {
    const Reader entry = held.at(i);
    request.held.push_back({entry["job"].job_name(), entry["round"].unsigned_integer(max_rounds)});
  }
  if (reader.has("leases")) {
    const Reader leases = reader["leases"];
    const size_t working = leases.size(max_working);
    for (size_t i = 0; i < working; ++i) request.leases.push_back(leases.at(i).hex16());
  }
  return request;
}

json to_json(const LeaseAnswer& answer) {
  if (answer.lease)
    return {{"lease",
             {{"lease", answer.lease->lease},
              {"attempt", answer.lease->attempt},
              {"renew_s", answer.lease->renew_s},
              {"deadline_s", answer.lease->deadline_s},
              {"unit", to_json(answer.lease->unit)}}}};
  return {{"lease", nullptr},
          {"reason", answer.none.value().reason},
          {"message", printable(answer.none->message, max_message_length)},
          {"retry_after_s", answer.none->retry_after_s}};
}

LeaseAnswer lease_answer_from_json(const json& message) {
  const Reader reader(message);
  const Reader lease = reader["lease"];
  LeaseAnswer answer;
  if (reader.has("lease"))
    answer.lease = read_lease(lease);
  else
    answer.none = read_no_lease(reader);
  return answer;
}

json to_json(const Renewal& renewal) { return {{"progress", renewal.progress}}; }

Renewal renewal_from_json(const json& message) {
  const Reader reader(message);
  return {reader["progress"].number(0, 1)};
}

json to_json(const RenewalAnswer& answer) {
  return {{"renew_s", answer.renew_s}, {"deadline_s", answer.deadline_s}, {"wanted", answer.wanted}};
}

RenewalAnswer renewal_answer_from_json(const json& message) {
  const Reader reader(message);
  return {reader["renew_s"].unsigned_integer(max_seconds), reader["deadline_s"].unsigned_integer(max_seconds),
          reader["wanted"].boolean()};
}

json to_json(const Release& release) { return {{"reason", printable(release.reason, max_reason_length)}}; }

Release release_from_json(const json& message) {
  const Reader reader(message);
  return {reader["reason"].string(max_reason_length)};
}

json to_json(const Submission& submission) {
  json message = {{"lease", submission.lease}, {"unit", submission.unit}, {"attempt", submission.attempt}};
  if (submission.diverged)
    message.update({{"outcome", "diverged"}, {"tensor", submission.tensor}, {"step", submission.step}});
  else
    message.update({{"outcome", "done"},
                    {"result", to_json(submission.result)},
                    {"segments_root", to_hex(submission.segments_root)},
                    {"loss", submission.loss},
                    {"tokens", submission.tokens},
                    {"seconds", submission.seconds}});
  return message;
}

Submission submission_from_json(const json& message) {
  const Reader reader(message);
  Submission submission;
  submission.lease = reader["lease"].hex16();
  const Reader unit = reader["unit"];
  const UnitName name = read_unit_name(unit);
  submission.unit = unit_name(name.job, name.round, name.kind, name.index);
  submission.attempt = reader["attempt"].unsigned_integer(max_integer);
  const std::string outcome = reader["outcome"].string(16);
  if (outcome == "diverged") {
    submission.diverged = true;
    submission.tensor = reader["tensor"].string(256);
    submission.step = reader["step"].unsigned_integer(max_integer);
  } else if (outcome == "done") {
    submission.result = read_blob(reader["result"]);
    submission.segments_root = reader["segments_root"].digest();
    submission.loss = reader["loss"].fp32();
    submission.tokens = reader["tokens"].unsigned_integer(max_integer);
    submission.seconds = reader["seconds"].number(0, 1e12);
  } else {
    reader["outcome"].refuse("must be \"done\" or \"diverged\"");
  }
  return submission;
}

json to_json(const SignedDocument& document, const char* text_key) {
  return {{text_key, document.document}, {"signature", base64(document.signature)}};
}

SignedDocument signed_document_from_json(const json& message, const char* text_key) {
  return read_signed_document(Reader(message), text_key);
}

json settlements_to_json(const std::vector<SignedDocument>& settlements) {
  json entries = json::array();
  for (const SignedDocument& settlement : settlements) entries.push_back(to_json(settlement, "document"));
  return {{"settlements", std::move(entries)}};
}

std::vector<SignedDocument> settlements_from_json(const json& message) {
  const Reader reader(message);
  const Reader entries = reader["settlements"];
  const size_t count = entries.size(max_settlements);
  std::vector<SignedDocument> settlements;
  for (size_t i = 0; i < count; ++i) settlements.push_back(read_signed_document(entries.at(i), "document"));
  return settlements;
}

json error_to_json(const Error& error, const json& details) {
  json body = details;
  body["code"] = static_cast<int>(error.code);
  body["name"] = name_of(error.code);
  body["message"] = printable(error.what(), max_message_length);
  return {{"error", std::move(body)}};
}

ErrorAnswer error_from_body(std::string_view body) {
  try {
    const json message = parse_object(body);
    const Reader reader(message);
    const Reader error = reader["error"];
    return {static_cast<int>(error["code"].unsigned_integer(9999)), error["name"].name(),
            printable(member(error.object(), "message").get_ref<const std::string&>(), max_message_length),
            error.object()};
  } catch (const std::exception&) {  // an error page of something that is no pool
    return {0, "", printable(body, max_reason_length), json::object()};
  }
}

}  // namespace protocol
