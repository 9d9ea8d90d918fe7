#include <algorithm>

#include "earnings_command.h"
#include "run_loop_fixture.h"

namespace agent {
namespace {

TEST_F(RunLoopTest, AUnitFromLeaseToReceipt) {
  job.lease(job.unit(), 7);
  EXPECT_FALSE(run(1));
  ASSERT_EQ(pool.submissions.size(), 1u);
  const protocol::Submission& submission = pool.submissions[0];
  EXPECT_EQ(submission.unit, "tiny.0.t0");
  EXPECT_EQ(submission.attempt, 7u);
  EXPECT_EQ(submission.tokens, job.unit().tokens);
  EXPECT_EQ(protocol::sha256(pool.uploads.at(submission.result.digest)), submission.result.digest);
  EXPECT_EQ(pool.enrolment->account, "ann");
  EXPECT_EQ(pool.enrolment->rig_id, "rig");
  EXPECT_EQ(pool.lease_request->codecs, (std::vector<std::string>{"fp32", "int4", "int8"}));
  EXPECT_GT(pool.lease_request->flops, 1e6);
  EXPECT_GT(pool.lease_request->memory_bytes, 1'000'000u);
  EXPECT_TRUE(outbox().names().empty());
  ASSERT_EQ(receipts().receipts().size(), 1u);
  EXPECT_TRUE(protocol::verify_document(receipts().receipts()[0], pool.key.public_key()));
  EXPECT_EQ(logged("accepted tiny.0.t0"), 1u) << log();
  EXPECT_EQ(logged("earned 83 micro-credits"), 1u) << log();
  EXPECT_EQ(pool.lease_request->held.size(), 1u) << "the next request names the weights held";
}

TEST_F(RunLoopTest, UnitsEndTheLoop) {
  for (int i = 0; i < 3; ++i) job.lease(job.unit());
  EXPECT_FALSE(run(1000, 2));
  EXPECT_EQ(pool.submissions.size(), 2u);
}

TEST_F(RunLoopTest, AUnitThatWaitedInTheOutboxIsOneOfThem) {
  job.lease(job.unit());
  job.lease(job.unit());
  bool down = true;
  pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (down && request.method == "PUT") {
      down = false;
      throw unreachable();
    }
    return {};
  };
  EXPECT_FALSE(run(1000, 1));
  EXPECT_EQ(pool.submissions.size(), 1u);
  EXPECT_EQ(pool.count("POST /v1/leases"), 1u) << log();
}

TEST_F(RunLoopTest, NoWorkIsSaidOnceAMinute) {
  EXPECT_FALSE(run(14));  // 5 s each
  EXPECT_EQ(logged("no work because nothing_to_do: all units are out"), 2u) << log();
  for (size_t i = 0; i + 1 < clock.sleeps.size(); ++i) EXPECT_LE(clock.sleeps[i], 5);
}

TEST_F(RunLoopTest, WhileARoundIsClosedItAsksAgainSoon) {
  const protocol::LeaseAnswer closing{std::nullopt, protocol::NoLease{"nothing_to_do", "round 0 is being closed", 0}};
  pool.leases.assign(7, closing);
  job.lease(job.unit());
  pool.leases.push_back(closing);
  EXPECT_FALSE(run(8, 2));
  const std::vector<double> expected{0.05, 0.1, 0.2, 0.4, 0.8, 1, 1, 0.05};
  ASSERT_EQ(clock.sleeps.size(), expected.size()) << log();
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(clock.sleeps[i], expected[i], 1e-9) << i;
}

TEST_F(RunLoopTest, AUnitBeyondTheLimitsIsGivenBack) {
  config.limits.steps = 2;
  job.lease(job.unit());
  EXPECT_FALSE(run(1));
  ASSERT_EQ(pool.releases.size(), 1u);
  EXPECT_NE(pool.releases[0].find("asks for 3 steps"), std::string::npos) << pool.releases[0];
  EXPECT_EQ(pool.count("GET /v1/blobs/"), 0u) << "checked before anything is downloaded";
  EXPECT_GE(clock.sleeps.at(0), 30);
}

TEST_F(RunLoopTest, ATokenOutsideTheVocabularyIsGivenBack) {
  std::vector<uint8_t> bytes(800, 0xff);
  job.shard.blob = pool.publish_reference(bytes);
  job.lease(job.unit());
  EXPECT_FALSE(run(1));
  ASSERT_EQ(pool.releases.size(), 1u);
  EXPECT_NE(pool.releases[0].find("65535"), std::string::npos) << pool.releases[0];
}

TEST_F(RunLoopTest, AStopGivesTheUnitBack) {
  job.lease(job.unit());
  pool.before = [this](const HttpRequest& request) -> std::optional<Error> {
    if (request.path.starts_with("/v1/blobs/")) stop.request();
    return {};
  };
  EXPECT_FALSE(run(1000));
  ASSERT_EQ(pool.releases.size(), 1u);
  EXPECT_NE(pool.releases[0].find("stopping"), std::string::npos);
  EXPECT_TRUE(pool.submissions.empty());
}

TEST_F(RunLoopTest, ANumericFailureIsASignedResult) {
  job.rounds[0][3] = 3e38f;
  job.checkpoint.blob = pool.publish_reference(job.checkpoint_bytes(0));
  job.lease(job.unit());
  EXPECT_FALSE(run(1));
  ASSERT_EQ(pool.submissions.size(), 1u);
  EXPECT_TRUE(pool.submissions[0].diverged);
  EXPECT_FALSE(pool.submissions[0].tensor.empty());
  EXPECT_TRUE(outbox().names().empty());
  EXPECT_EQ(receipts().receipts().size(), 1u);
}

TEST_F(RunLoopTest, AResultThatCouldNotBeSentWaitsInTheOutbox) {
  job.lease(job.unit());
  bool down = true;
  pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (down && request.method == "PUT") throw unreachable();
    return {};
  };
  EXPECT_FALSE(run(2));
  EXPECT_EQ(outbox().names(), std::vector<std::string>{"tiny.0.t0.1"});

  down = false;  // a new process
  Stop new_stop;
  Surroundings again = restarted(new_stop);
  clock.on_sleep = [&] { new_stop.request(); };
  RunLoop(config, key, 0, again).run();
  ASSERT_EQ(pool.submissions.size(), 1u);
  EXPECT_TRUE(outbox().names().empty());
  EXPECT_EQ(receipts().receipts().size(), 1u);
  EXPECT_EQ(logged("sending tiny.0.t0.1, which waited in the outbox"), 2u) << log();
}

TEST_F(RunLoopTest, AnUploadGoesOnWhereItWasCut) {
  job.lease(job.unit());
  int pieces = 0;
  pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (request.method == "PUT" && ++pieces == 2) throw unreachable();
    return {};
  };
  EXPECT_FALSE(run(2));
  ASSERT_EQ(pool.submissions.size(), 1u);
  const uint64_t bytes = pool.submissions[0].result.bytes;
  const uint64_t whole = (bytes + pool.piece_bytes - 1) / pool.piece_bytes;
  EXPECT_EQ(pool.count("PUT "), whole + 2) << "the cut piece and one to learn what is held";
}

// The pool counted the result, and the answer was lost. It has no lease any more that allows an upload.
TEST_F(RunLoopTest, ALostReceiptIsAskedForBeforeAnythingIsUploadedAgain) {
  job.lease(job.unit());
  bool lost = false;
  pool.edit_receipt = [&](protocol::Receipt&) {
    if (!std::exchange(lost, true)) throw unreachable();
  };
  pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (lost && request.method == "PUT") return Error(ErrorCode::blob_too_large, "this rig has no lease");
    return {};
  };
  EXPECT_FALSE(run(2));
  EXPECT_TRUE(outbox().names().empty());
  EXPECT_EQ(receipts().receipts().size(), 1u) << log();
  EXPECT_EQ(logged("rejected tiny.0.t0"), 0u) << log();
}

TEST_F(RunLoopTest, AFinalRefusalOfAResultIsCountedAndDropped) {
  job.lease(job.unit());
  pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (request.path == "/v1/submissions") return Error(ErrorCode::bad_result, "scale 3 is not finite");
    return {};
  };
  EXPECT_FALSE(run(1));
  EXPECT_TRUE(outbox().names().empty());
  EXPECT_EQ(logged("rejected tiny.0.t0: scale 3 is not finite"), 1u) << log();
}

TEST_F(RunLoopTest, AReceiptAboutAnotherResultEndsTheWork) {
  job.lease(job.unit());
  pool.edit_receipt = [](protocol::Receipt& receipt) { receipt.result[0] ^= 1; };
  const auto failure = run();
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Exit::refused);
  EXPECT_EQ(outbox().names().size(), 1u) << "the result stays";
  EXPECT_TRUE(receipts().receipts().empty());
}

TEST_F(RunLoopTest, SupersededIsNoRejection) {
  job.lease(job.unit());
  pool.outcome = protocol::Outcome::superseded;
  EXPECT_FALSE(run(1));
  EXPECT_EQ(logged("came too late"), 1u);
  EXPECT_EQ(receipts().receipts().size(), 1u);
}

TEST_F(RunLoopTest, NoPoolAtStartEndsAfterThreeAttempts) {
  pool.before = [](const HttpRequest&) -> std::optional<Error> { throw unreachable(); };
  const auto failure = run(100);
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Exit::unreachable);
  EXPECT_STREQ(failure->what(), "nobody there");
  EXPECT_EQ(pool.calls.size(), 3u);
  EXPECT_LT(clock.now, 1000 + 5);
}

TEST_F(RunLoopTest, AfterASuccessItNeverGivesUp) {
  std::vector<double> failed_at;
  pool.before = [&](const HttpRequest&) -> std::optional<Error> {
    if (!pool.lease_request) return {};
    failed_at.push_back(clock.now);
    throw unreachable();
  };
  EXPECT_FALSE(run(15));
  ASSERT_GT(failed_at.size(), 10u);
  double whole = 1;  // pauses of half to whole 1, 2, 4, … 300 s
  for (size_t i = 1; i < failed_at.size(); ++i) {
    EXPECT_GE(failed_at[i] - failed_at[i - 1], whole / 2) << i;
    EXPECT_LE(failed_at[i] - failed_at[i - 1], whole) << i;
    whole = std::min(2 * whole, 300.0);
  }
}

TEST_F(RunLoopTest, WrongTokenIsFinal) {
  pool.before = [](const HttpRequest& request) -> std::optional<Error> {
    if (request.path == "/v1/rigs") return Error(ErrorCode::token_wrong, "not the token of ann");
    return {};
  };
  const auto failure = run();
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Exit::refused);
  EXPECT_NE(std::string(failure->what()).find("check the token of -p"), std::string::npos);
  EXPECT_TRUE(clock.sleeps.empty());
}

TEST_F(RunLoopTest, TlsIsFinalOnlyBeforeTheFirstSuccess) {
  bool broken = true;
  pool.before = [&](const HttpRequest&) -> std::optional<Error> {
    if (broken) throw TransportError(TransportError::Kind::tls, "the certificate is not trusted");
    return {};
  };
  const auto failure = run();
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, Exit::tls);
  broken = false;
  clock.on_sleep = [&, count = 0]() mutable {
    broken = true;
    if (++count == 4) stop.request();
  };
  EXPECT_NO_THROW(RunLoop(config, key, 0, world).run());
}

TEST_F(RunLoopTest, ADifferentPoolAtTheSameAddressIsRefused) {
  EXPECT_FALSE(run(1));
  fakes::FakePool other;
  connect = [&](const PoolConfig&) { return other.transport(); };
  Stop new_stop;
  Surroundings again = restarted(new_stop);
  try {
    RunLoop(config, key, 0, again).run();
    FAIL();
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.code, Exit::refused);
    EXPECT_NE(std::string(failure.what()).find("has become another pool"), std::string::npos) << failure.what();
  }
}

TEST_F(RunLoopTest, AWrongClockIsCorrectedOnce) {
  clock.epoch += 7200;
  EXPECT_FALSE(run(2));
  EXPECT_EQ(pool.count("POST /v1/rigs"), 2u);
  EXPECT_EQ(logged("7200 s ahead of the pool's"), 1u) << log();
}

TEST_F(RunLoopTest, AClockThatIsSetRightIsNoWarning) {
  clock.epoch -= 7200;
  clock.on_sleep = [&] {
    if (clock.sleeps.size() == 1) clock.epoch += 7200;
    if (clock.sleeps.size() == 3) stop.request();
  };
  RunLoop(config, key, 0, world).run();
  EXPECT_EQ(logged("7200 s behind the pool's"), 1u) << log();
  EXPECT_EQ(logged("this machine's clock is right again"), 1u) << log();
  EXPECT_EQ(logged("should be set"), 1u) << log();
}

// Either clock, an hour either way, before every request of a unit: each unit is sent once, and nothing waits.
TEST_F(RunLoopTest, ClocksJumpAnHourBeforeEveryRequest) {
  int64_t pool_ahead = 0;
  size_t units = 0, asked = 0, jump_at = 0;
  pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (request.path == "/v1/leases" && pool.submissions.size() == units && asked > jump_at) {
      if (++units > 4 * 12) stop.request();
      jump_at = units % 12;
      asked = 0;
      job.lease(job.unit(), units);
    }
    if (++asked == jump_at) {
      int64_t& jumping = units % 2 == 0 ? clock.epoch : pool_ahead;
      jumping += units / 2 % 2 == 0 ? 3600 : -3600;
    }
    pool.now = 1'760'000'000 + static_cast<int64_t>(clock.now - 1000) + pool_ahead;
    return {};
  };
  EXPECT_FALSE(run(500));
  EXPECT_GT(units, 48u) << log();
  EXPECT_EQ(pool.submissions.size(), 48u);
  EXPECT_EQ(receipts().receipts().size(), 48u);
  EXPECT_EQ(logged("next attempt in"), 0u) << "one correction is enough";
  EXPECT_GT(logged("signatures follow the pool's clock"), 10u);
}

TEST_F(RunLoopTest, AChangedKeyIsIntroducedByTheOldOne) {
  const protocol::PrivateKey old = key.current;
  key = {protocol::PrivateKey::generate(), old};
  EXPECT_FALSE(run(1));
  ASSERT_TRUE(pool.enrolment && pool.enrolment->previous);
  EXPECT_EQ(pool.enrolment->previous->key, old.public_key());
  EXPECT_TRUE(protocol::verify(old.public_key(), protocol::rotation_message(pool.pool_id, key.current.public_key()),
                               pool.enrolment->previous->signature));
}

TEST_F(RunLoopTest, APoolThatNeverKnewTheOldKeyGetsTheNewOneAlone) {
  key = {protocol::PrivateKey::generate(), protocol::PrivateKey::generate()};
  pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
    const std::string body(request.body.begin(), request.body.end());
    if (request.path == "/v1/rigs" && body.find("previous") != std::string::npos) {
      return Error(ErrorCode::unknown_key, "the previous key is not enrolled");
    }
    return {};
  };
  EXPECT_FALSE(run(1));
  ASSERT_TRUE(pool.enrolment);
  EXPECT_FALSE(pool.enrolment->previous);
}

TEST_F(RunLoopTest, ChangingTheKeyKeepsTheOldOne) {
  const RigKeys first = load_or_make_keys(folder.path);
  EXPECT_FALSE(first.previous);
  EXPECT_EQ(load_or_make_keys(folder.path).current.public_key(), first.current.public_key()) << "made once";
  const RigKeys changed = change_key(folder.path);
  EXPECT_NE(changed.current.public_key(), first.current.public_key());
  ASSERT_TRUE(changed.previous);
  EXPECT_EQ(changed.previous->public_key(), first.current.public_key());
  EXPECT_EQ(std::filesystem::status(folder.path / "key.pem").permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

// A pool that answers lease requests with one refusal.
class Refusing : public Transport {
 public:
  Refusing(std::unique_ptr<Transport> inner, HttpResponse refusal)
      : inner_(std::move(inner)), refusal_(std::move(refusal)) {}
  HttpResponse send(const HttpRequest& request) override {
    return request.path == "/v1/leases" ? refusal_ : inner_->send(request);
  }
  const std::string& authority() const override { return inner_->authority(); }

 private:
  const std::unique_ptr<Transport> inner_;
  const HttpResponse refusal_;
};

HttpResponse refusal(int status, ErrorCode code, double retry_after) {
  return {status, protocol::error_to_json(Error(code, "not now")).dump(), retry_after};
}

TEST_F(RunLoopTest, TheRetryAfterOfThePoolCounts) {
  connect = [&](const PoolConfig&) {
    return std::make_unique<Refusing>(pool.transport(), refusal(429, ErrorCode::rate_limited, 77));
  };
  EXPECT_FALSE(run(2));
  EXPECT_DOUBLE_EQ(clock.sleeps[0] + clock.sleeps[1], 77);
}

TEST_F(RunLoopTest, ARetryAfterOfAYearIsFiveMinutes) {
  for (const HttpResponse& answer :
       {refusal(503, ErrorCode::overloaded, 3e7), refusal(500, ErrorCode::internal, 3e7), HttpResponse{503, "", 3e7}}) {
    connect = [&](const PoolConfig&) { return std::make_unique<Refusing>(pool.transport(), answer); };
    clock.sleeps.clear();
    EXPECT_FALSE(run(2));
    EXPECT_DOUBLE_EQ(clock.sleeps[0] + clock.sleeps[1], 300) << answer.status << answer.body;
  }
}

TEST_F(RunLoopTest, ABusyPoolIsAskedLessAndLessAndTheSessionStays) {
  int asked = 0;
  pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (request.path != "/v1/leases") return {};
    return Error(++asked % 2 == 0 ? ErrorCode::rate_limited : ErrorCode::overloaded, "not now");
  };
  EXPECT_FALSE(run(8));
  EXPECT_GT(asked, 4);
  EXPECT_EQ(pool.count("POST /v1/rigs"), 1u);
  EXPECT_GT(*std::max_element(clock.sleeps.begin(), clock.sleeps.end()), 16);
}

TEST_F(RunLoopTest, ALostAnswerRepeatsTheSameRequest) {
  std::vector<std::string> ids;
  pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
    if (request.path != "/v1/leases") return {};
    ids.push_back(protocol::lease_request_from_json(
                      protocol::parse_object({reinterpret_cast<const char*>(request.body.data()), request.body.size()}))
                      .request_id);
    if (ids.size() == 1) throw unreachable();
    return {};
  };
  EXPECT_FALSE(run(3));
  ASSERT_GE(ids.size(), 3u);
  EXPECT_EQ(ids[0], ids[1]);
  EXPECT_NE(ids[1], ids[2]);
}

TEST_F(RunLoopTest, NoLeaseWithoutRoom) {
  config.outbox_limit_mb = 0;
  EXPECT_FALSE(run(2));
  EXPECT_EQ(pool.count("POST /v1/leases"), 0u);
  EXPECT_GE(logged("the outbox is full"), 1u);
}

TEST_F(RunLoopTest, BuffersGoAfterHalfAMinute) {
  int made = 0;
  world.make_ops = [&] {
    ++made;
    return kernels::make_cpu_ops(1);
  };
  job.lease(job.unit());
  EXPECT_FALSE(run(8));  // 5 s each
  EXPECT_EQ(made, 1);
  EXPECT_GT(clock.now, 1030);
  job.lease(job.unit());
  Stop new_stop;
  Surroundings again = restarted(new_stop);
  clock.on_sleep = [&, n = 0]() mutable {
    if (++n == 9) job.lease(job.unit());
    if (n == 12) new_stop.request();
  };
  RunLoop(config, key, 0, again).run();
  EXPECT_EQ(made, 3) << "one engine for the self-test and the first unit, another after the long pause";
  EXPECT_EQ(pool.submissions.size(), 3u);
}

TEST_F(RunLoopTest, SettlementsAreKeptAndEarningsAddUp) {
  job.lease(job.unit());
  ASSERT_FALSE(run(1));
  ASSERT_EQ(receipts().receipts().size(), 1u);
  pool.settlements.push_back(settlement(key.current.public_key(), protocol::sha256(receipts().receipts()[0].document)));
  Stop new_stop;
  Surroundings again = restarted(new_stop);
  clock.on_sleep = [&] { new_stop.request(); };
  RunLoop(config, key, 0, again).run();
  EXPECT_EQ(receipts().last_settlement(), 4u);

  EarningsBook book = read_earnings(folder.path);
  ASSERT_EQ(book.lines.size(), 1u);
  EXPECT_EQ(book.lines.begin()->first.job, "tiny");
  EXPECT_EQ(book.lines.begin()->first.day, day_of(pool.now));
  EXPECT_EQ(book.lines.begin()->second.accepted, 83u);
  EXPECT_EQ(book.lines.begin()->second.settled, 83u);
  EXPECT_TRUE(book.problems.empty());

  // A receipt that someone made better.
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path / "receipts")) {
    if (!entry.path().string().ends_with(".receipt.json")) continue;
    std::ifstream in(entry.path());
    std::string text(std::istreambuf_iterator<char>(in), {});
    text.replace(text.find("\"83\""), 4, "\"99\"");
    fakes::write_file(entry.path(), text);
  }
  book = read_earnings(folder.path);
  EXPECT_TRUE(book.lines.empty());
  EXPECT_EQ(book.problems.size(), 1u);
}

}  // namespace
}  // namespace agent
