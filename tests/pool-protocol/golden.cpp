#include "golden.h"

#include <cmath>
#include <cstring>

#include "protocol/blob.h"
#include "protocol/http_signature.h"
#include "protocol/plan.h"
#include "samples.h"

namespace protocol::samples {
namespace {

using nlohmann::json;

std::string pretty(const json& value) { return value.dump(1) + "\n"; }

std::string raw(std::span<const uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }

std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

template <class T>
std::string raw_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

json key_entry(uint8_t seed) {
  return {{"seed", to_hex(std::vector<uint8_t>(32, seed))}, {"public_key", to_hex(test_key(seed).public_key())}};
}

json keys() {
  return {{"pool", key_entry(pool_seed)},
          {"rig", key_entry(rig_seed)},
          {"new_rig", key_entry(new_rig_seed)},
          {"new_pool", key_entry(new_pool_seed)},
          {"pool_id", to_hex(pool_id())}};
}

// A lease request as it goes over the wire.
json signed_request() {
  const std::string body = to_json(lease_request()).dump();
  const RequestParts parts{"POST", "Pool.Example:8443", "/v1/leases", bytes_of(body)};
  const SignatureHeaders headers =
      sign_request(parts, test_key(rig_seed), pool_id(), now, "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf");
  return {{"method", parts.method},
          {"host", parts.authority},
          {"path", parts.path},
          {"body", body},
          {"now", now},
          {"content_digest", headers.content_digest},
          {"signature_input", headers.signature_input},
          {"signature", headers.signature},
          {"base", verify_request(parts, headers, pool_id(), now).base}};
}

json rotation() {
  const Enrolment enrolment = samples::enrolment();
  const std::string message = rotation_message(pool_id(), test_key(new_rig_seed).public_key());
  return {{"message", to_hex(bytes_of(message))},
          {"old_key", to_hex(enrolment.previous->key)},
          {"signature", base64(enrolment.previous->signature)}};
}

json merkle() {
  json trees = json::array();
  for (const size_t count : {0u, 1u, 2u, 3u, 7u}) {
    std::vector<std::vector<uint8_t>> data;
    for (size_t i = 0; i < count; ++i) data.emplace_back(i, static_cast<uint8_t>(0x10 + i));  // leaf i has i bytes
    json leaves = json::array();
    std::vector<std::span<const uint8_t>> spans;
    for (const auto& leaf : data) {
      leaves.push_back(to_hex(leaf));
      spans.emplace_back(leaf);
    }
    trees.push_back({{"leaves", leaves}, {"root", to_hex(merkle_root(spans))}});
  }
  std::vector<float> values(40'000);  // 160,000 bytes: two whole leaves and a part
  for (size_t i = 0; i < values.size(); ++i) values[i] = 0.5f * static_cast<float>(i) - 1000;
  const std::vector<Digest> digests = {segment_digest(values), segment_digest(std::span(values).first(16'384)),
                                       segment_digest({})};
  return {{"trees", trees},
          {"segments",
           {{{"values", values.size()}, {"digest", to_hex(digests[0])}},
            {{"values", 16'384}, {"digest", to_hex(digests[1])}},
            {{"values", 0}, {"digest", to_hex(digests[2])}}}},
          {"segments_root", to_hex(merkle_root(std::span<const Digest>(digests)))}};
}

// 131 values: a common block, a block of zeros, and an odd rest with extremes.
std::vector<float> blob_values() {
  std::vector<float> values(131, 0.0f);
  for (size_t i = 0; i < 64; ++i) values[i] = std::ldexp(static_cast<float>(static_cast<int>(37 * i % 129) - 64), -10);
  values[128] = 1.5f;
  values[129] = -1.5f;
  values[130] = 0.75f;  // exactly between two steps
  return values;
}

// docs/numerics.md section 7, as plainly as it can be said: the scales, and digits of -largest ... largest.
struct Blocks {
  std::vector<float> scales;
  std::vector<int> digits;
};

Blocks blocks_of(const std::vector<float>& values, float largest) {
  Blocks blocks;
  for (size_t begin = 0; begin < values.size(); begin += 64) {
    const size_t end = std::min(begin + 64, values.size());
    float amax = 0;
    for (size_t i = begin; i < end; ++i) amax = std::max(amax, std::fabs(values[i]));
    const bool tiny = amax < std::ldexp(1.0f, -100);
    blocks.scales.push_back(tiny ? 0 : amax / largest);
    for (size_t i = begin; i < end; ++i)
      blocks.digits.push_back(tiny ? 0 : static_cast<int>(std::nearbyint(values[i] * (largest / amax))));
  }
  return blocks;
}

std::string int4_payload(const std::vector<float>& values) {
  const Blocks blocks = blocks_of(values, 7);
  std::vector<uint8_t> nibbles((values.size() + 1) / 2);
  for (size_t i = 0; i < values.size(); ++i)
    nibbles[i / 2] |= static_cast<uint8_t>((blocks.digits[i] & 15) << (i % 2 * 4));
  return raw_of(blocks.scales) + raw_of(nibbles);
}

std::string int8_payload(const std::vector<float>& values) {
  const Blocks blocks = blocks_of(values, 127);
  return raw_of(blocks.scales) + raw_of(std::vector<int8_t>(blocks.digits.begin(), blocks.digits.end()));
}

std::string blob(BlobKind kind, CodecId codec, uint64_t count, const std::string& payload) {
  const BlobHeader header = make_blob_header(kind, codec, count);
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) + payload;
}

json numbers_of(const InnerAdamW& numbers) {
  Unit unit = train_unit();
  unit.inner = numbers;
  return to_json(unit)["inner"];
}

json plan() {
  const JobDescription job = samples::job();
  json lanes = json::array(), rows = json::array(), evaluation = json::array(), prices = json::array();
  for (const uint64_t round : {0u, 12u, 999u})
    for (uint64_t lane = 0; lane < 4; ++lane) {
      const uint64_t shard = shard_of_lane(job.seed, round, lane, job.train.size());
      lanes.push_back({round, lane, shard});
      for (const uint64_t step : {0u, 2u})
        rows.push_back(
            {round, lane, step, 4, row_begin(job.seed, round, lane, step, 4, job.train[shard].tokens, job.context)});
    }
  for (const uint64_t row : {0u, 1u, 2u, 17u, 31u, 32u}) {
    const EvaluationRow place = evaluation_row(row, job.evaluate_rows, job.context, job.validation);
    evaluation.push_back({row, place.shard, place.begin});
  }
  for (const auto& [tokens, flops, price] : std::vector<std::array<uint64_t, 3>>{{1, 1, 0},
                                                                                 {1, 1, 1},
                                                                                 {1'000'000'000, 1, 1},
                                                                                 {1'000'000'001, 1, 1},
                                                                                 {1920, 238'848, 1'000'000},
                                                                                 {1ull << 40, 1ull << 42, 1ull << 20},
                                                                                 {UINT64_MAX, UINT64_MAX, UINT64_MAX}})
    prices.push_back({std::to_string(tokens), std::to_string(flops), std::to_string(price),
                      std::to_string(price_of(tokens, flops, price))});
  return {{"shard_of_lane", lanes},
          {"row_begin", rows},
          {"evaluation_row", evaluation},
          {"price", prices},
          {"inner",
           {{"round 0", numbers_of(inner_numbers(*job.inner, 0, 3))},
            {"round 33", numbers_of(inner_numbers(*job.inner, 33, 3))},
            {"round 999", numbers_of(inner_numbers(*job.inner, 999, 3))}}},
          {"outer",
           {{"round 0", numbers_of(outer_numbers(gradient_job().outer, 0))},
            {"round 499", numbers_of(outer_numbers(gradient_job().outer, 499))}}}};
}

}  // namespace

std::map<std::string, std::string> golden_files() {
  const PrivateKey pool_key = test_key(pool_seed);
  std::map<std::string, std::string> files;
  files["keys.json"] = pretty(keys());
  files["pool.pub.pem"] = to_pem(pool_key.public_key());
  files["rig.pub.pem"] = to_pem(test_key(rig_seed).public_key());
  files["request.json"] = pretty(signed_request());
  files["rotation.json"] = pretty(rotation());
  files["merkle.json"] = pretty(merkle());
  files["plan.json"] = pretty(plan());

  // Signed documents: exact bytes (no newline at the end) and the raw signature beside them.
  for (const auto& [name, text] : std::map<std::string, std::string>{{"receipt", to_canonical(receipt())},
                                                                     {"settlement", to_canonical(settlement())},
                                                                     {"record", to_canonical(round_record())},
                                                                     {"job", to_canonical(job())},
                                                                     {"gradient_job", to_canonical(gradient_job())}}) {
    files[name + ".json"] = text;
    files[name + ".sig"] = raw(sign_document(text, pool_key).signature);
  }

  files["message.pool.json"] = pretty(to_json(pool_info()));
  files["message.enrolment.json"] = pretty(to_json(enrolment()));
  files["message.lease_request.json"] = pretty(to_json(lease_request()));
  files["message.lease.json"] = pretty(to_json(lease_answer()));
  files["message.no_lease.json"] = pretty(to_json(no_lease_answer()));
  files["message.evaluate_unit.json"] = pretty(to_json(evaluate_unit()));
  files["message.renewal.json"] = pretty(to_json(Renewal{0.25}));
  files["message.renewal_answer.json"] = pretty(to_json(RenewalAnswer{60, 840, true}));
  files["message.release.json"] = pretty(to_json(Release{"the agent is shutting down"}));
  files["message.submission.json"] = pretty(to_json(submission()));
  files["message.diverged.json"] = pretty(to_json(diverged_submission()));
  files["message.receipt.json"] = pretty(to_json(sign_document(to_canonical(receipt()), pool_key), "receipt"));
  files["message.settlements.json"] =
      pretty(settlements_to_json({sign_document(to_canonical(settlement()), pool_key)}));
  files["message.error.json"] =
      pretty(error_to_json(Error(ErrorCode::clock_skew, "the rig's clock is 400 s ahead"), {{"pool_time", now}}));

  const std::vector<float> values = blob_values();
  files["result.fp32.blob"] = blob(BlobKind::result, CodecId::fp32, values.size(), raw_of(values));
  files["update.int4.blob"] = blob(BlobKind::update, CodecId::int4, values.size(), int4_payload(values));
  files["update.int8.blob"] = blob(BlobKind::update, CodecId::int8, values.size(), int8_payload(values));
  files["losses.blob"] = blob(BlobKind::losses, CodecId::fp32, 3, raw_of(std::vector<float>{5.5f, 5.25f, 5.0f}));
  return files;
}

}  // namespace protocol::samples
