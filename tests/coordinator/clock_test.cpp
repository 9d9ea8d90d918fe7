// The pool's clock jumps an hour either way before every request: rigs sign by it again, nothing is paid twice, and
// nobody waits out the hour.
#include "api_fixture.h"

namespace pool::testing {
namespace {

class ClockJumps : public ApiFixture {
 protected:
  ClockJumps() {
    enrol("ann", create_account(*core, "ann"));
    computing_.emplace(rig("bob"));
  }

  // As an agent asks: once more by the pool's time where its clock is refused. Before the `jump_at`-th request from now
  // the clock jumps, which the rig does not know.
  Answer ask(const std::string& method, const std::string& path, const std::string& body) {
    if (++asked_ == jump_at_) {
      clock.time += jump_;
      rig_ahead -= jump_;
    }
    Answer answer = call(method, path, body);
    if (answer.code == 1104) {
      rig_ahead += answer.body["error"]["pool_time"].get<int64_t>() - (clock.time + rig_ahead);
      answer = call(method, path, body);
    }
    EXPECT_EQ(answer.status, 200) << answer.body;
    return answer;
  }

  void play(const std::string& name) {
    JobRequest request = tiny_job(name);
    request.description.rounds = 1;
    create(request);
    for (int turn = 0; status(name).state == "running"; ++turn) {
      ASSERT_LT(turn, 40) << "it hangs";
      advance();
      const auto answer = protocol::lease_answer_from_json(ask("POST", "/v1/leases", lease_request().dump()).body);
      if (!answer.lease) {
        clock.time += 5;
        continue;
      }
      Work work = computing_->compute(*answer.lease);
      ask("POST", "/v1/leases/" + answer.lease->lease + "/renewal", R"({"progress": 0.5})");
      ask("PUT", "/v1/blobs/" + protocol::to_hex(work.submission.result.digest) + "/0",
          std::string(work.blob.begin(), work.blob.end()));
      const Answer receipt = ask("POST", "/v1/submissions", protocol::to_json(work.submission).dump());
      EXPECT_EQ(protocol::receipt_from_canonical(receipt.body["receipt"].get<std::string>()).outcome,
                protocol::Outcome::accepted);
      advance();
    }
  }

  std::optional<Rig> computing_;
  int64_t jump_ = 0;
  int asked_ = 0, jump_at_ = 0;
};

TEST_F(ClockJumps, BeforeEveryRequestOfAJob) {
  play("peace");
  const int requests = asked_;
  const int64_t earned = number("SELECT amount FROM ledger_balances WHERE account = 'account:ann'");
  ASSERT_GT(requests, 10);
  int jobs = 1;
  for (const int64_t jump : {3600, -3600}) {
    for (jump_at_ = 1; jump_at_ <= requests; ++jump_at_) {
      SCOPED_TRACE(std::to_string(jump) + " s before request " + std::to_string(jump_at_));
      jump_ = jump;
      asked_ = 0;
      play("job-" + std::to_string(jobs++));
      EXPECT_EQ(number("SELECT amount FROM ledger_balances WHERE account = 'account:ann'"), jobs * earned);
      expect_books_balance();
      if (HasFailure()) return;
    }
  }
}

TEST_F(ClockJumps, ALeaseOfTheFutureHoldsNoUnitBack) {
  JobRequest request = tiny_job();
  request.description.units_per_round = 1;
  create(request);
  advance();
  clock.time += 3600;
  ASSERT_TRUE(rig("carl").ask().lease);  // whose rig is gone
  clock.time -= 3600;
  Rig other = rig("bob");
  std::set<std::string> units;
  for (int turn = 0; turn < 3; ++turn) {
    if (const auto answer = other.ask(); answer.lease) {
      units.insert(answer.lease->unit.name);
      other.work(*answer.lease);
    }
    advance();
  }
  EXPECT_TRUE(units.contains("tiny.0.t0") && units.contains("tiny.0.e0"));
}

// Its nonce is forgotten meanwhile, but what it asks for is done already.
TEST_F(ClockJumps, ARequestOfBeforeTheJumpsChangesNothingWhenItIsReplayed) {
  create(tiny_job());
  advance();
  const auto lease = protocol::lease_answer_from_json(call("POST", "/v1/leases", lease_request()).body).lease;
  ASSERT_TRUE(lease);
  const Work work = computing_->compute(*lease);
  ASSERT_EQ(upload(work).status, 200);
  const HttpRequest submission = signed_request("POST", "/v1/submissions", protocol::to_json(work.submission).dump());
  const Answer receipt = send(submission);
  ASSERT_EQ(receipt.status, 200);
  EXPECT_EQ(send(submission).code, 1105);
  const int64_t postings = number("SELECT count(*) FROM ledger_postings");
  clock.time += 3600;
  advance();
  clock.time -= 3600;
  const Answer again = send(submission);
  EXPECT_TRUE(again.code == 1105 || again.body == receipt.body) << again.body;
  EXPECT_EQ(number("SELECT count(*) FROM ledger_postings"), postings);
  expect_books_balance();
}

}  // namespace
}  // namespace pool::testing
