#include "protocol/messages.h"

#include <gtest/gtest.h>

#include "member_table.h"
#include "protocol/json.h"
#include "refusal.h"
#include "samples.h"

namespace protocol {
namespace {

using nlohmann::json;

// Structs have no operator==; a message that survives text, parsing and writing again has kept every member.
template <class Parse>
void expect_round_trip(const json& message, Parse parse) {
  EXPECT_EQ(to_json(parse(parse_object(message.dump()))), message);
}

template <class Parse>
auto ignoring_result(Parse parse) {
  return [parse](const json& message) { static_cast<void>(parse(message)); };
}

TEST(Messages, RoundTrips) {
  expect_round_trip(to_json(samples::pool_info()), pool_info_from_json);
  expect_round_trip(to_json(samples::enrolment()), enrolment_from_json);
  Enrolment first = samples::enrolment();
  first.previous.reset();
  expect_round_trip(to_json(first), enrolment_from_json);
  expect_round_trip(to_json(samples::lease_request()), lease_request_from_json);
  expect_round_trip(to_json(samples::train_unit()), unit_from_json);
  expect_round_trip(to_json(samples::evaluate_unit()), unit_from_json);
  expect_round_trip(to_json(samples::lease_answer()), lease_answer_from_json);
  expect_round_trip(to_json(samples::no_lease_answer()), lease_answer_from_json);
  expect_round_trip(to_json(Renewal{0.3}), renewal_from_json);
  expect_round_trip(to_json(RenewalAnswer{60, 100, false}), renewal_answer_from_json);
  expect_round_trip(to_json(Release{"stopping"}), release_from_json);
  expect_round_trip(to_json(samples::submission()), submission_from_json);
  expect_round_trip(to_json(samples::diverged_submission()), submission_from_json);
}

TEST(Messages, SignedDocuments) {
  const SignedDocument document = sign_document("{\"a\":\"ä\"}", samples::test_key(samples::pool_seed));
  const SignedDocument back = signed_document_from_json(parse_object(to_json(document, "receipt").dump()), "receipt");
  EXPECT_EQ(back.document, document.document);
  EXPECT_EQ(back.signature, document.signature);
  const std::vector<SignedDocument> list = settlements_from_json(settlements_to_json({document, document}));
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[1].document, document.document);
  EXPECT_TRUE(settlements_from_json(settlements_to_json({})).empty());
  check_members(settlements_to_json({document}),
                {{"/settlements", Kind::array, {json::array({1})}},
                 {"/settlements/0", Kind::object},
                 {"/settlements/0/document", Kind::text, {std::string(1'048'577, 'x')}},
                 {"/settlements/0/signature", Kind::signature}},
                ignoring_result(settlements_from_json));
  const std::vector<SignedDocument> too_many(501, document);
  expect_refusal([&] { settlements_from_json(settlements_to_json(too_many)); }, ErrorCode::bad_member, "501 entries");
}

// fp32 numbers travel exactly.
TEST(Messages, FloatsAreExact) {
  Submission submission = samples::submission();
  for (const float loss : {0.1f, 1e-45f, 3.4028235e38f, -0.0f, 2.7182817f}) {
    submission.loss = loss;
    const Submission back = submission_from_json(parse_object(to_json(submission).dump()));
    EXPECT_EQ(std::bit_cast<uint32_t>(back.loss), std::bit_cast<uint32_t>(loss));
  }
}

TEST(Messages, PoolInfoMembers) {
  const std::string zeros(64, '0');
  check_members(to_json(samples::pool_info()),
                {{"/pool_id", Kind::digest, {zeros}},
                 {"/public_keys", Kind::array, {json::array(), std::vector<int>(65)}},
                 {"/public_keys/0", Kind::object},
                 {"/public_keys/0/key", Kind::digest},
                 {"/public_keys/1/key", Kind::digest},
                 {"/public_keys/1/signature", Kind::signature},
                 {"/protocol", Kind::count},
                 {"/software", Kind::text, {std::string(65, 'x')}},
                 {"/minimum_agent", Kind::text, {std::string(65, 'x')}},
                 {"/time", Kind::count},
                 {"/max_piece_bytes", Kind::count, {0, (1 << 26) + 1}}},
                [](const json& message) {
                  try {
                    pool_info_from_json(message);
                  } catch (const Error& error) {
                    // A missing signature is refused as the key's entry.
                    const std::string text = error.what();
                    if (text == "public_keys[1]: is not signed by the key before it")
                      throw Error(error.code, message["/public_keys/1"_json_pointer].contains("signature")
                                                  ? "public_keys[1].signature"
                                                  : "public_keys[1].signature: is missing");
                    throw;
                  }
                });
}

TEST(Messages, PoolKeysAreAChain) {
  PoolInfo info = samples::pool_info();
  const PrivateKey other = samples::test_key(9);
  info.public_keys[1].signature = other.sign(rotation_message(info.pool_id, info.public_keys[1].key));
  expect_refusal([&] { pool_info_from_json(to_json(info)); }, ErrorCode::bad_member, "public_keys[1]: is not signed");
  info.public_keys[1].signature.reset();
  expect_refusal([&] { pool_info_from_json(to_json(info)); }, ErrorCode::bad_member, "public_keys[1]: is not signed");
  info.public_keys.pop_back();
  EXPECT_NO_THROW(pool_info_from_json(to_json(info)));
  info.public_keys[0].key = other.public_key();
  expect_refusal([&] { pool_info_from_json(to_json(info)); }, ErrorCode::bad_member, "pool_id: is not the digest");
}

TEST(Messages, EnrolmentMembers) {
  check_members(to_json(samples::enrolment()),
                {{"/account", Kind::name},
                 {"/token", Kind::text, {std::string(257, 'x')}},
                 {"/rig_id", Kind::name},
                 {"/agent", Kind::text, {std::string(65, 'x')}},
                 {"/previous", Kind::object, {}, Null::allowed},
                 {"/previous/key", Kind::digest},
                 {"/previous/signature", Kind::signature}},
                ignoring_result(enrolment_from_json));
}

TEST(Messages, LeaseRequestMembers) {
  const std::vector<std::string> too_many(65, "a");
  const json held = {{"job", "a"}, {"round", 1}};
  check_members(to_json(samples::lease_request()),
                {{"/request_id", Kind::hex16},
                 {"/instance", Kind::hex16},
                 {"/agent", Kind::text, {std::string(65, 'x')}},
                 {"/profiles", Kind::array, {too_many}},
                 {"/profiles/0", Kind::capability},
                 {"/codecs", Kind::array, {too_many}},
                 {"/codecs/0", Kind::capability},
                 {"/kinds", Kind::array, {too_many}},
                 {"/kinds/0", Kind::capability},
                 {"/memory_bytes", Kind::count},
                 {"/flops", Kind::number, {-1, 1e25}},
                 {"/held", Kind::array, {std::vector<json>(1025, held)}},
                 {"/held/0", Kind::object},
                 {"/held/0/job", Kind::job_name},
                 {"/held/0/round", Kind::count, {1'000'000'001}},
                 {"/leases", Kind::array, {std::vector<std::string>(65, std::string(32, 'a'))}, Null::allowed},
                 {"/leases/0", Kind::hex16}},
                ignoring_result(lease_request_from_json));
}

// Under /lease/unit, so that the paths go through every level.
TEST(Messages, LeaseAnswerMembers) {
  const json update = to_json(samples::train_unit())["weights"]["updates"][0];
  check_members(to_json(samples::lease_answer()),
                {{"/lease", Kind::object, {}, Null::not_tried},
                 {"/lease/lease", Kind::hex16},
                 {"/lease/attempt", Kind::count},
                 {"/lease/renew_s", Kind::count, {0, 10'000'001}},
                 {"/lease/deadline_s", Kind::count, {10'000'001}},
                 {"/lease/unit", Kind::object},
                 {"/lease/unit/unit", Kind::text, {"kjv.12.t0", "kjv.12.e1", "kjv.13.t1", "other.12.t1"}},
                 {"/lease/unit/job", Kind::job_name},
                 {"/lease/unit/round", Kind::count, {1'000'000'001}},
                 {"/lease/unit/index", Kind::count, {65'536}},
                 {"/lease/unit/kind", Kind::text, {"", "Train", "audit"}},
                 {"/lease/unit/profile", Kind::capability},
                 {"/lease/unit/codec", Kind::capability},
                 {"/lease/unit/model", Kind::object},
                 {"/lease/unit/parameters", Kind::count, {0, (uint64_t{1} << 40) + 1}},
                 {"/lease/unit/base_round", Kind::count, {13, 1'000'000'001}},
                 {"/lease/unit/weights", Kind::object},
                 {"/lease/unit/weights/round", Kind::count, {1'000'000'001}},
                 {"/lease/unit/weights/digest", Kind::digest},
                 {"/lease/unit/weights/checkpoint", Kind::object, {}, Null::allowed},
                 {"/lease/unit/weights/checkpoint/round", Kind::count},
                 {"/lease/unit/weights/checkpoint/digest", Kind::digest},
                 {"/lease/unit/weights/checkpoint/bytes", Kind::count, {0, (uint64_t{1} << 50) + 1}},
                 {"/lease/unit/weights/updates", Kind::array, {std::vector<json>(4097, update)}},
                 {"/lease/unit/weights/updates/0", Kind::object},
                 {"/lease/unit/weights/updates/0/round", Kind::count, {9, 11}},
                 {"/lease/unit/weights/updates/0/digest", Kind::digest},
                 {"/lease/unit/weights/updates/0/bytes", Kind::count, {0, (uint64_t{1} << 50) + 1}},
                 {"/lease/unit/weights/updates/0/weights", Kind::digest},
                 {"/lease/unit/first_lane", Kind::count, {0, 1, 3}},
                 {"/lease/unit/lanes", Kind::count, {0, 65'537}},
                 {"/lease/unit/shards", Kind::array, {json::array(), std::vector<int>(65'537)}},
                 {"/lease/unit/shards/0", Kind::object},
                 {"/lease/unit/shards/0/digest", Kind::digest},
                 {"/lease/unit/shards/0/bytes", Kind::count, {0, 2}},
                 {"/lease/unit/shards/0/tokens", Kind::count, {0, 64}},
                 {"/lease/unit/shards/1/tokens", Kind::count, {0, 64}},
                 {"/lease/unit/seed", Kind::amount},
                 {"/lease/unit/steps", Kind::count, {0, 100'001}},
                 {"/lease/unit/batch", Kind::count, {0, (1 << 20) + 1}},
                 {"/lease/unit/context", Kind::count, {0, (1 << 20) + 1}},
                 {"/lease/unit/inner", Kind::object, {}, Null::not_tried},
                 {"/lease/unit/inner/name", Kind::text, {"sgd"}},
                 {"/lease/unit/inner/beta1", Kind::fp32},
                 {"/lease/unit/inner/one_minus_beta1", Kind::fp32},
                 {"/lease/unit/inner/beta2", Kind::fp32},
                 {"/lease/unit/inner/one_minus_beta2", Kind::fp32},
                 {"/lease/unit/inner/epsilon", Kind::fp32},
                 {"/lease/unit/inner/max_grad_norm", Kind::fp32},
                 {"/lease/unit/inner/steps", Kind::array, {json::array(), std::vector<int>(100'001)}},
                 {"/lease/unit/inner/steps/0", Kind::object},
                 {"/lease/unit/inner/steps/0/decay", Kind::fp32},
                 {"/lease/unit/inner/steps/0/step_size", Kind::fp32},
                 {"/lease/unit/inner/steps/0/inv_sqrt_bc2", Kind::fp32},
                 {"/lease/unit/tokens", Kind::count, {1919, 1921}},
                 {"/lease/unit/price", Kind::amount, {"9223372036854775808"}},
                 {"/lease/unit/max_result_bytes", Kind::count, {0}}},
                ignoring_result(lease_answer_from_json), "/lease/unit/model");
}

TEST(Messages, NoLeaseMembers) {
  const json message = to_json(samples::no_lease_answer());
  check_members(message,
                {{"/lease", Kind::object, {}, Null::allowed},
                 {"/reason", Kind::capability},
                 {"/message", Kind::text, {std::string(1025, 'x')}},
                 {"/retry_after_s", Kind::count, {10'000'001}}},
                ignoring_result(lease_answer_from_json));
  json without = message;
  without.erase("lease");
  expect_refusal([&] { lease_answer_from_json(without); }, ErrorCode::bad_member, "lease: is missing");
}

TEST(Messages, SmallMessagesMembers) {
  check_members(to_json(Renewal{0.5}), {{"/progress", Kind::number, {-0.001, 1.001}}},
                ignoring_result(renewal_from_json));
  check_members(to_json(RenewalAnswer{60, 100, true}),
                {{"/renew_s", Kind::count}, {"/deadline_s", Kind::count}, {"/wanted", Kind::boolean}},
                ignoring_result(renewal_answer_from_json));
  check_members(to_json(Release{"x"}), {{"/reason", Kind::text, {std::string(201, 'x')}}},
                ignoring_result(release_from_json));
}

TEST(Messages, SubmissionMembers) {
  check_members(to_json(samples::submission()),
                {{"/lease", Kind::hex16},
                 {"/unit", Kind::unit_name},
                 {"/attempt", Kind::count},
                 {"/outcome", Kind::text, {"", "accepted"}},
                 {"/result", Kind::object},
                 {"/result/digest", Kind::digest},
                 {"/result/bytes", Kind::count, {0}},
                 {"/segments_root", Kind::digest},
                 {"/loss", Kind::fp32},
                 {"/tokens", Kind::count},
                 {"/seconds", Kind::number, {-1, 1e13}}},
                ignoring_result(submission_from_json));
  check_members(to_json(samples::diverged_submission()),
                {{"/lease", Kind::hex16},
                 {"/unit", Kind::unit_name},
                 {"/attempt", Kind::count},
                 {"/outcome", Kind::text, {"", "accepted"}},
                 {"/tensor", Kind::text, {std::string(257, 'x')}},
                 {"/step", Kind::count}},
                ignoring_result(submission_from_json));
}

// What must agree inside a unit, beyond single members.
TEST(Messages, UnitsAreConsistent) {
  const auto refused = [](Unit unit, const std::string& part) {
    expect_refusal([&] { unit_from_json(to_json(unit)); }, ErrorCode::bad_member, part);
  };
  Unit unit = samples::train_unit();
  unit.shards.pop_back();
  refused(unit, "shards: must have one entry per lane");
  unit = samples::train_unit();
  unit.inner->steps.pop_back();
  refused(unit, "inner.steps: must have as many entries");
  unit = samples::train_unit();
  unit.inner.reset();
  refused(unit, "inner: must be null if, and only if, steps is 1");
  unit = samples::train_unit();
  unit.weights.updates.erase(unit.weights.updates.begin());
  refused(unit, "weights.checkpoint: is not of the round");
  unit = samples::train_unit();
  std::swap(unit.weights.updates[0], unit.weights.updates[1]);
  refused(unit, "weights.updates[0].round: must be 10");
  unit = samples::train_unit();
  unit.weights.updates[1].weights = samples::digest_of("other");
  refused(unit, "weights.updates: end in other weights");
  unit = samples::train_unit();
  unit.weights.updates.clear();
  unit.weights.checkpoint->round = 12;
  refused(unit, "weights.checkpoint: has another digest");
  unit = samples::train_unit();
  unit.weights.round = 1;
  refused(unit, "weights.updates: has more entries than rounds");
  unit = samples::train_unit();
  unit.base_round = 11;
  refused(unit, "weights: are not of the base round");
  unit = samples::evaluate_unit();
  unit.lanes = 2;
  refused(unit, "evaluates");
  // Products beyond 64 bits do not wrap: 2^16 · 2^8 · 2^20 · 2^20 tokens are 0 modulo 2^64.
  json wide = to_json(samples::train_unit());
  wide.update({{"unit", "kjv.12.t0"},
               {"index", 0},
               {"first_lane", 0},
               {"lanes", 65'536},
               {"steps", 256},
               {"batch", 1 << 20},
               {"context", 1 << 20},
               {"tokens", 0}});
  wide["inner"]["steps"] = std::vector<json>(256, wide["inner"]["steps"][0]);
  wide["shards"] =
      std::vector<json>(65'536, {{"digest", to_hex(samples::digest_of("x"))}, {"bytes", 4 << 20}, {"tokens", 2 << 20}});
  expect_refusal([&] { unit_from_json(wide); }, ErrorCode::bad_member, "tokens: must be lanes");
}

TEST(Messages, UnitNames) {
  EXPECT_EQ(unit_name("kjv", 12, UnitKind::train, 0), "kjv.12.t0");
  const auto name = parse_unit_name("a-b.0.e7");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->job, "a-b");
  EXPECT_EQ(name->round, 0u);
  EXPECT_EQ(name->index, 7u);
  EXPECT_EQ(name->kind, UnitKind::evaluate);
}

// Text for people is made fit when it is written, so the other side never refuses it.
TEST(Messages, FreeTextIsMadePrintable) {
  const std::string wild = "no \x1b[31mspace\n\xff" + std::string(5000, 'x');
  EXPECT_NO_THROW(release_from_json(parse_object(to_json(Release{wild}).dump())));
  LeaseAnswer none = samples::no_lease_answer();
  none.none->message = wild;
  EXPECT_NO_THROW(lease_answer_from_json(parse_object(to_json(none).dump())));
}

TEST(Messages, Errors) {
  const json body = error_to_json(Error(ErrorCode::blob_offset, "a \x1b gap \xff"), {{"offset", 123}});
  EXPECT_EQ(body["error"]["name"], "blob_offset");
  const ErrorAnswer answer = error_from_body(body.dump());
  EXPECT_EQ(answer.code, 1401);
  EXPECT_EQ(answer.name, "blob_offset");
  EXPECT_EQ(answer.message, "a   gap \xef\xbf\xbd");
  EXPECT_EQ(answer.details["offset"], 123);
}

TEST(Messages, ErrorFromAnything) {
  const std::string not_errors[] = {"",
                                    "<html>502 Bad Gateway</html>",
                                    "{}",
                                    R"({"error":1})",
                                    R"({"error":{}})",
                                    R"({"error":{"code":-1,"name":"x","message":"y"}})",
                                    R"({"error":{"code":1,"name":"a b","message":"y"}})",
                                    R"({"error":{"code":1,"name":"x","message":7}})",
                                    R"({"error":{"code":1,"name":"x"}})",
                                    std::string(2'000'000, 'x'),
                                    "\xff\xfe\x1b"};
  for (const std::string& body : not_errors) {
    const ErrorAnswer answer = error_from_body(body);
    EXPECT_EQ(answer.code, 0) << body.substr(0, 100);
    EXPECT_EQ(answer.message, printable(body, 200));
  }
}

}  // namespace
}  // namespace protocol
