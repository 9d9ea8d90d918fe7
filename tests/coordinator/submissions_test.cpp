#include "submissions.h"

#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <utility>

#include "fake_rig.h"
#include "protocol/blob.h"
#include "uploads.h"

namespace pool::testing {
namespace {

using protocol::Error;
using protocol::ErrorCode;

class Submissions : public PoolFixture {
 protected:
  static ErrorCode code_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.code;
    }
    ADD_FAILURE() << "nothing was refused";
    return ErrorCode::internal;
  }
  // Submits a changed blob under its own right digest.
  ErrorCode refusal(Rig& rig, const protocol::Lease& lease, const std::function<void(Work&)>& change) {
    Work work = rig.compute(lease);
    change(work);
    work.submission.result = {protocol::sha256(work.blob), work.blob.size()};
    return code_of([&] { rig.deliver(work); });
  }
};

TEST_F(Submissions, AcceptedOnceAndAnsweredTheSameForEver) {
  create(tiny_job());
  Rig a = rig("alice");
  const protocol::Lease lease = a.take();
  const Work work = a.compute(lease);
  a.upload(work);
  const protocol::SignedDocument receipt = a.submit(work);
  EXPECT_TRUE(protocol::verify_document(receipt, pool->info().public_keys[0].key));
  const protocol::Receipt read = protocol::receipt_from_canonical(receipt.document);
  EXPECT_EQ(read.outcome, protocol::Outcome::accepted);
  EXPECT_EQ(read.account, "alice");
  EXPECT_EQ(read.unit, lease.unit.name);
  EXPECT_EQ(read.price, lease.unit.price);
  EXPECT_EQ(read.result, work.submission.result.digest);
  EXPECT_EQ(read.tokens, lease.unit.tokens);
  EXPECT_EQ(number("SELECT count(*) FROM results WHERE evidence_base <> '' AND evidence_body = '{}'"), 1);

  clock.time += 1000;
  EXPECT_EQ(a.submit(work).document, receipt.document);
  EXPECT_EQ(a.submit(work).signature, receipt.signature);
  Work other = work;
  other.submission.result.digest[0] ^= 1;
  EXPECT_EQ(code_of([&] { a.submit(other); }), ErrorCode::result_conflict);
  EXPECT_EQ(number("SELECT amount FROM ledger_balances WHERE account = 'escrow:alice'"),
            static_cast<int64_t>(lease.unit.price));
  expect_books_balance();
}

TEST_F(Submissions, WhatIsNoResultIsRefusedAndCounted) {
  create(tiny_job());
  Rig a = rig("alice");
  const protocol::Lease lease = a.take();
  constexpr auto bad = ErrorCode::bad_result;
  EXPECT_EQ(refusal(a, lease, [](Work& w) { w.blob[0] ^= 1; }), bad);                        // magic
  EXPECT_EQ(refusal(a, lease, [](Work& w) { w.blob[10] = 2; }), bad);                        // kind
  EXPECT_EQ(refusal(a, lease, [](Work& w) { w.blob[12] = 1; }), bad);                        // codec
  EXPECT_EQ(refusal(a, lease, [](Work& w) { w.blob[16] ^= 1; }), bad);                       // count
  EXPECT_EQ(refusal(a, lease, [](Work& w) { w.blob.pop_back(); }), bad);                     // size
  EXPECT_EQ(refusal(a, lease, [](Work& w) { w.blob[35] = 0x7f, w.blob[34] = 0x80; }), bad);  // a scale that is infinite
  EXPECT_EQ(refusal(a, lease, [](Work& w) { w.blob[35] = 0x7f, w.blob[34] = 0x7f; }), bad);  // finite, but not times 7
  EXPECT_EQ(refusal(a, lease, [](Work& w) { w.blob[35] = 0x7d, w.blob[34] = 0x00; }), bad);  // finite, but not its norm
  EXPECT_EQ(refusal(a, lease, [](Work& w) { w.blob.back() = 0x88; }), bad);                  // nibbles of -8
  EXPECT_EQ(refusal(a, lease, [](Work& w) { w.submission.tokens += 1; }), bad);
  const JobStatus counted = status();
  EXPECT_EQ(counted.units_rejected, 10u);
  EXPECT_EQ(counted.units_accepted, 0u);
  EXPECT_EQ(pool->status().rigs[0].rejected, 10u);
  EXPECT_TRUE(std::filesystem::is_empty(core->store.uploads()));
  // The unit is free for others at once, for this rig after a while; a right result of its old lease is still taken.
  Rig b = rig("bob");
  EXPECT_EQ(b.take().unit.name, lease.unit.name);
  EXPECT_EQ(a.work(lease).outcome, protocol::Outcome::accepted);
}

TEST_F(Submissions, EvaluationsMustAgreeWithThemselves) {
  create(tiny_job());
  Rig a = rig("alice");
  protocol::LeaseRequest request = a.request();
  request.kinds = {"evaluate"};
  const protocol::Lease lease = *a.ask(request).lease;
  EXPECT_EQ(refusal(a, lease, [](Work& w) { w.submission.loss += 0.5f; }), ErrorCode::bad_result);
  EXPECT_EQ(refusal(a, lease, [](Work& w) { w.submission.segments_root[0] ^= 1; }), ErrorCode::bad_result);
  const Work work = a.compute(lease);
  EXPECT_EQ(work.blob.size(), 32u + 2 * 4);
  EXPECT_EQ(a.deliver(work).outcome, protocol::Outcome::accepted);
  ASSERT_EQ(status().validation_loss.size(), 1u);
  EXPECT_EQ(status().validation_loss[0], std::pair(uint64_t{0}, work.submission.loss));
}

TEST_F(Submissions, OnlyUnderAnOwnLease) {
  create(tiny_job());
  Rig a = rig("alice"), b = rig("bob");
  const protocol::Lease lease = a.take();
  const Work work = a.compute(lease);
  b.take();
  b.upload(work);
  EXPECT_EQ(code_of([&] { b.submit(work); }), ErrorCode::lease_unknown);
  a.upload(work);
  Work changed = work;
  changed.submission.attempt = 2;
  EXPECT_EQ(code_of([&] { a.submit(changed); }), ErrorCode::lease_unknown);
  changed = work;
  changed.submission.unit = "tiny.0.t1";
  EXPECT_EQ(code_of([&] { a.submit(changed); }), ErrorCode::lease_unknown);
  changed.submission.unit = "tiny.9.t0";
  EXPECT_EQ(code_of([&] { a.submit(changed); }), ErrorCode::lease_unknown);
  EXPECT_EQ(protocol::receipt_from_canonical(a.submit(work).document).outcome, protocol::Outcome::accepted);
}

TEST_F(Submissions, NoneOfAKeyThatIsRevokedWhileItsRequestIsInWork) {
  create(tiny_job());
  Rig a = rig("alice");
  const Work work = a.compute(a.take());
  a.upload(work);
  revoke_rig(*core, protocol::to_hex(a.identity.key));
  EXPECT_EQ(code_of([&] { a.submit(work); }), ErrorCode::key_revoked);  // as a request that was admitted before
  EXPECT_EQ(number("SELECT count(*) FROM results"), 0);
}

// While it is admitted its upload is claimed; that must not look as if the pool had nothing.
TEST_F(Submissions, ARepeatedOneWaitsForTheFirst) {
  struct AskingClock : ManualClock {
    int64_t now() const override {
      if (ask) std::exchange(ask, {})();
      return time;
    }
    mutable std::function<void()> ask;
  } asking;
  create(tiny_job());
  Rig a = rig("alice");
  const Work work = a.compute(a.take());
  a.upload(work);
  pool = std::make_unique<Pool>(folder.path / "data", asking);
  bool asked = false;
  asking.ask = [&] {  // as the first one's receipt is written
    asked = true;
    EXPECT_EQ(code_of([&] { a.submit(work); }), ErrorCode::overloaded);
  };
  const protocol::SignedDocument receipt = a.submit(work);
  EXPECT_TRUE(asked);
  EXPECT_EQ(a.submit(work).document, receipt.document);
  reopen();  // the clock of this pool ends here
}

TEST_F(Submissions, UploadsResumeAndAreBounded) {
  create(tiny_job());
  Rig a = rig("alice");
  const protocol::Digest any{};
  EXPECT_EQ(code_of([&] { pool->put_piece(a.identity, any, 0, std::vector<uint8_t>(10)); }), ErrorCode::blob_too_large);
  const protocol::Lease lease = a.take();
  const Work work = a.compute(lease);
  const protocol::Digest& digest = work.submission.result.digest;
  const auto piece = [&](size_t from, size_t to) { return std::span(work.blob).subspan(from, to - from); };
  const size_t size = work.blob.size();
  EXPECT_EQ(pool->put_piece(a.identity, digest, 0, piece(0, 100)), 100u);
  EXPECT_EQ(pool->put_piece(a.identity, digest, 0, piece(0, 50)), 100u);  // held already
  EXPECT_EQ(code_of([&] { pool->put_piece(a.identity, digest, 200, piece(200, 300)); }), ErrorCode::blob_offset);
  EXPECT_EQ(pool->held_bytes(a.identity, digest), 100u);
  EXPECT_EQ(code_of([&] { a.submit(work); }), ErrorCode::blob_missing);
  reopen();
  EXPECT_EQ(pool->put_piece(a.identity, digest, 90, piece(90, size)), size);  // overlaps
  EXPECT_EQ(code_of([&] { pool->put_piece(a.identity, digest, size, std::vector<uint8_t>(1)); }),
            ErrorCode::blob_too_large);
  EXPECT_EQ(protocol::receipt_from_canonical(a.submit(work).document).outcome, protocol::Outcome::accepted);

  // Bytes under a wrong name are thrown away; a flood of names replaces its own.
  const protocol::Lease next = a.take();
  Work wrong = a.compute(next);
  wrong.submission.result.digest[0] ^= 1;
  a.upload(wrong);
  EXPECT_EQ(code_of([&] { a.submit(wrong); }), ErrorCode::blob_digest_mismatch);
  EXPECT_EQ(pool->held_bytes(a.identity, wrong.submission.result.digest), 0u);
  for (uint8_t i = 0; i < 20; ++i) {
    protocol::Digest name{};
    name[0] = i;
    pool->put_piece(a.identity, name, 0, piece(0, 10));
  }
  EXPECT_EQ(
      std::distance(std::filesystem::directory_iterator(core->store.uploads()), std::filesystem::directory_iterator()),
      3);
  const auto age_and_tidy = [&] {
    for (const auto& entry : std::filesystem::directory_iterator(core->store.uploads())) {
      std::filesystem::last_write_time(entry, entry.last_write_time() - std::chrono::hours(2));
    }
    clock.time += 100;
    advance();
  };
  age_and_tidy();
  EXPECT_FALSE(std::filesystem::is_empty(core->store.uploads()));  // the unit still waits for one of them
  a.work(next);
  age_and_tidy();
  EXPECT_TRUE(std::filesystem::is_empty(core->store.uploads()));
}

TEST_F(Submissions, TwoEqualReportsOfANumericFailureStopTheJob) {
  create(tiny_job());
  Rig a = rig("alice"), b = rig("bob"), c = rig("carol");
  const auto report = [&](Rig& rig, const std::string& tensor) {
    const protocol::Lease lease = rig.take();
    EXPECT_EQ(lease.unit.name, "tiny.0.t0");
    Work work;
    work.submission.lease = lease.lease;
    work.submission.unit = lease.unit.name;
    work.submission.attempt = lease.attempt;
    work.submission.diverged = true;
    work.submission.tensor = tensor;
    work.submission.step = 1;
    const protocol::SignedDocument receipt = rig.submit(work);
    EXPECT_EQ(rig.submit(work).document, receipt.document);
    return protocol::receipt_from_canonical(receipt.document);
  };
  const protocol::Receipt receipt = report(a, "loss");
  EXPECT_EQ(receipt.outcome, protocol::Outcome::diverged);
  EXPECT_EQ(receipt.price, 0u);
  EXPECT_EQ(receipt.result, protocol::sha256(std::string_view()));
  EXPECT_EQ(a.take().unit.name, "tiny.0.t1");  // not the same again
  report(b, "transformer.wte.weight");
  EXPECT_EQ(status().state, "running");  // they do not agree
  report(c, "loss");
  EXPECT_EQ(status().state, "diverged");
  EXPECT_NE(status().detail.find("tiny.0.t0 in loss at step 1"), std::string::npos) << status().detail;
  EXPECT_EQ(c.ask().none->reason, "paused");
  EXPECT_EQ(pool->status().rigs[1].state, "barred");  // bob's report was contradicted by two
  advance();
}

}  // namespace
}  // namespace pool::testing
