#include "protocol/documents.h"

#include <gtest/gtest.h>

#include "member_table.h"
#include "protocol/json.h"
#include "refusal.h"
#include "samples.h"

namespace protocol {
namespace {

using nlohmann::json;

template <class Parse>
auto canonical(Parse parse) {
  return [parse](const json& document) { static_cast<void>(parse(document.dump())); };
}

TEST(Documents, RoundTrips) {
  EXPECT_EQ(to_canonical(receipt_from_canonical(to_canonical(samples::receipt()))), to_canonical(samples::receipt()));
  EXPECT_EQ(to_canonical(settlement_from_canonical(to_canonical(samples::settlement()))),
            to_canonical(samples::settlement()));
  EXPECT_EQ(to_canonical(round_record_from_canonical(to_canonical(samples::round_record()))),
            to_canonical(samples::round_record()));
  for (const JobDescription& job : {samples::job(), samples::gradient_job()})
    EXPECT_EQ(to_canonical(job_from_canonical(to_canonical(job))), to_canonical(job));
}

TEST(Documents, Outcomes) {
  Receipt receipt = samples::receipt();
  for (const Outcome outcome : {Outcome::superseded, Outcome::diverged}) {
    receipt.outcome = outcome;
    receipt.price = 0;
    EXPECT_EQ(receipt_from_canonical(to_canonical(receipt)).outcome, outcome);
    receipt.price = 1;  // only accepted work is paid
    expect_refusal([&] { receipt_from_canonical(to_canonical(receipt)); }, ErrorCode::bad_member, "price");
  }
  Settlement settlement = samples::settlement();
  settlement.settled = false;
  EXPECT_FALSE(settlement_from_canonical(to_canonical(settlement)).settled);
}

TEST(Documents, Signatures) {
  const PrivateKey key = samples::test_key(samples::pool_seed);
  SignedDocument document = sign_document(to_canonical(samples::receipt()), key);
  EXPECT_TRUE(verify_document(document, key.public_key()));
  EXPECT_FALSE(verify_document(document, samples::test_key(samples::rig_seed).public_key()));
  document.document += "\n";
  EXPECT_FALSE(verify_document(document, key.public_key()));
}

// Of a document of integers and strings there is exactly one text.
TEST(Documents, OnlyCanonicalTextIsTaken) {
  const std::string text = to_canonical(samples::receipt());
  const json document = json::parse(text);
  std::string unsorted = text;
  unsorted.replace(unsorted.find("{\"account\":\"alice\","), 19, "{");
  unsorted.replace(unsorted.size() - 1, 1, ",\"account\":\"alice\"}");
  ASSERT_EQ(json::parse(unsorted), document);
  for (const std::string& other : {document.dump(1), text + "\n", " " + text, unsorted}) {
    expect_refusal([&] { receipt_from_canonical(other); }, ErrorCode::bad_json, "canonical", other);
  }
  std::string escaped = text;
  escaped.replace(escaped.find("alice"), 5, "\\u0061lice");
  expect_refusal([&] { receipt_from_canonical(escaped); }, ErrorCode::bad_json, "canonical");
}

TEST(Documents, ReceiptMembers) {
  check_members(json::parse(to_canonical(samples::receipt())),
                {{"/account", Kind::name},
                 {"/attempt", Kind::count},
                 {"/job", Kind::job_name},
                 {"/outcome", Kind::text, {"", "done"}},
                 {"/pool_id", Kind::digest},
                 {"/price", Kind::amount, {"9223372036854775808"}},
                 {"/result", Kind::digest},
                 {"/rig", Kind::digest},
                 {"/round", Kind::count, {1'000'000'001}},
                 {"/segments_root", Kind::digest},
                 {"/time", Kind::count, {10'000'000'000}},
                 {"/tokens", Kind::count},
                 {"/type", Kind::text, {"settlement"}},
                 {"/unit", Kind::unit_name, {"kjv.13.t1", "other.12.t1"}},
                 {"/version", Kind::count, {0, 2}}},
                canonical(receipt_from_canonical));
}

TEST(Documents, SettlementMembers) {
  check_members(json::parse(to_canonical(samples::settlement())),
                {{"/account", Kind::name},
                 {"/amount", Kind::amount},
                 {"/attempt", Kind::count},
                 {"/outcome", Kind::text, {"", "accepted"}},
                 {"/pool_id", Kind::digest},
                 {"/reason", Kind::text, {std::string(201, 'x')}},
                 {"/receipt", Kind::digest},
                 {"/rig", Kind::digest},
                 {"/sequence", Kind::count},
                 {"/time", Kind::count, {10'000'000'000}},
                 {"/type", Kind::text, {"receipt"}},
                 {"/unit", Kind::unit_name},
                 {"/version", Kind::count, {0, 2}}},
                canonical(settlement_from_canonical));
}

TEST(Documents, RoundRecordMembers) {
  check_members(json::parse(to_canonical(samples::round_record())),
                {{"/checkpoint", Kind::object},
                 {"/checkpoint/bytes", Kind::count, {0}},
                 {"/checkpoint/digest", Kind::digest},
                 {"/checkpoint/round", Kind::count, {1'000'000'001}},
                 {"/job", Kind::job_name},
                 {"/job_digest", Kind::digest},
                 {"/pool_id", Kind::digest},
                 {"/previous", Kind::digest},
                 {"/round", Kind::count, {1'000'000'001}},
                 {"/state", Kind::digest},
                 {"/time", Kind::count, {10'000'000'000}},
                 {"/tokens", Kind::count},
                 {"/type", Kind::text, {"job"}},
                 {"/units_root", Kind::digest},
                 {"/update", Kind::object},
                 {"/update/bytes", Kind::count, {0}},
                 {"/update/digest", Kind::digest},
                 {"/version", Kind::count, {0, 2}},
                 {"/weights", Kind::digest}},
                canonical(round_record_from_canonical));
}

std::vector<Member> members_of_every_job() {
  return {{"/batch", Kind::count, {0, (1 << 20) + 1}},
          {"/check_share_ppm", Kind::count, {1'000'001}},
          {"/clip_norm", Kind::number, {-1, 1e7}},
          {"/codec", Kind::capability},
          {"/context", Kind::count, {0, (1 << 20) + 1}},
          {"/evaluate_every", Kind::count, {0}},
          {"/evaluate_rows", Kind::count, {0, (1 << 20) + 1}},
          {"/initial_weights", Kind::object},
          {"/initial_weights/bytes", Kind::count, {0}},
          {"/initial_weights/digest", Kind::digest},
          {"/job", Kind::job_name},
          {"/lanes_per_unit", Kind::count, {0, 65'537}},
          {"/model", Kind::object},
          {"/outer", Kind::object},
          {"/outer/lr", Kind::number, {-1, 1e7}},
          {"/outer/name", Kind::text, {"", "sgd"}},
          {"/outer/warmup_rounds", Kind::count, {1'000'000'001}},
          {"/parameters", Kind::count, {0}},
          {"/pool_id", Kind::digest},
          {"/price", Kind::amount, {"9223372036854775808"}},
          {"/price_evaluate", Kind::amount, {"9223372036854775808"}},
          {"/price_train", Kind::amount, {"9223372036854775808"}},
          {"/profile", Kind::capability},
          {"/rounds", Kind::count, {0, 1'000'000'001}},
          {"/seed", Kind::amount},
          {"/train", Kind::array, {json::array(), std::vector<int>(65'537)}},
          {"/train/0", Kind::object},
          {"/train/0/bytes", Kind::count, {0, 2}},
          {"/train/0/digest", Kind::digest},
          {"/train/0/tokens", Kind::count, {0, 64}},
          {"/type", Kind::text, {"round"}},
          {"/units_per_round", Kind::count, {0, 65'537}},
          {"/validation", Kind::array, {json::array()}},
          {"/validation/0", Kind::object},
          {"/validation/0/bytes", Kind::count, {0, 2}},
          {"/validation/0/digest", Kind::digest},
          {"/validation/0/tokens", Kind::count, {0, 64}},
          {"/version", Kind::count, {0, 2}}};
}

TEST(Documents, JobMembers) {
  std::vector<Member> table = members_of_every_job();
  const std::vector<Member> more = {{"/steps", Kind::count, {0, 1, 100'001}},
                                    {"/inner", Kind::object},
                                    {"/inner/name", Kind::text, {"sgd"}},
                                    {"/inner/lr", Kind::number, {-1, 1e7}},
                                    {"/inner/beta1", Kind::number, {-0.1, 1}},
                                    {"/inner/beta2", Kind::number, {-0.1, 1}},
                                    {"/inner/epsilon", Kind::number, {0, 1e-60, 2}},
                                    {"/inner/weight_decay", Kind::number, {-1}},
                                    {"/inner/max_grad_norm", Kind::number, {-1}},
                                    {"/inner/warmup_steps", Kind::count},
                                    {"/outer/momentum", Kind::number, {-0.1, 1}}};
  table.insert(table.end(), more.begin(), more.end());
  // A job whose steps are 1 has no inner optimiser; the message then names inner, which must be null.
  const auto parse = [](const json& document) {
    try {
      static_cast<void>(job_from_canonical(document.dump()));
    } catch (const Error& error) {
      if (document.contains("steps") && document["steps"] == 1 && std::string(error.what()).starts_with("inner"))
        throw Error(error.code, "steps: " + std::string(error.what()));
      throw;
    }
  };
  check_members(json::parse(to_canonical(samples::job())), table, parse, "/model");
}

TEST(Documents, GradientJobMembers) {
  std::vector<Member> table = members_of_every_job();
  const json inner = json::parse(to_canonical(samples::job()))["inner"];
  const std::vector<Member> more = {
      {"/steps", Kind::count, {0, 100'001}},     {"/inner", Kind::object, {inner}, Null::allowed},
      {"/outer/beta1", Kind::number, {-0.1, 1}}, {"/outer/beta2", Kind::number, {-0.1, 1}},
      {"/outer/epsilon", Kind::number, {0, 2}},  {"/outer/weight_decay", Kind::number, {-1}}};
  table.insert(table.end(), more.begin(), more.end());
  check_members(json::parse(to_canonical(samples::gradient_job())), table, canonical(job_from_canonical), "/model");
}

}  // namespace
}  // namespace protocol
