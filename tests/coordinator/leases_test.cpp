#include "leases.h"

#include "fake_rig.h"
#include "jobs.h"
#include "protocol/blob.h"

namespace pool::testing {
namespace {

using protocol::Error;
using protocol::ErrorCode;

class Leases : public PoolFixture {
 protected:
  // The reason for which a rig gets nothing.
  std::string reason(Rig& rig, const std::function<void(protocol::LeaseRequest&)>& change = {}) {
    protocol::LeaseRequest request = rig.request();
    if (change) change(request);
    const protocol::LeaseAnswer answer = rig.ask(request);
    return answer.lease ? "lease of " + answer.lease->unit.name : answer.none->reason;
  }
  // Of a rig that computes a train unit of the job tiny in so many seconds.
  double flops_for(double seconds) {
    return core->store.read([&](Db& db) { return core->job(db, "tiny")->flops_per_token; }) * (2 * 2 * 8) / seconds;
  }
  static ErrorCode code_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.code;
    }
    ADD_FAILURE() << "nothing was refused";
    return ErrorCode::internal;
  }
};

TEST_F(Leases, OneUnitEachThenEvaluationThenNothing) {
  create(tiny_job());
  Rig a = rig("alice"), b = rig("bob"), c = rig("carol"), d = rig("dave");
  EXPECT_EQ(a.take().unit.name, "tiny.0.t0");
  EXPECT_EQ(b.take().unit.name, "tiny.0.t1");
  const protocol::Lease evaluation = c.take();
  EXPECT_EQ(evaluation.unit.name, "tiny.0.e0");
  EXPECT_EQ(evaluation.attempt, 1u);
  EXPECT_EQ(evaluation.renew_s, 60u);
  EXPECT_GE(evaluation.deadline_s, 300u);
  const protocol::LeaseAnswer none = d.ask();
  ASSERT_TRUE(none.none);
  EXPECT_EQ(none.none->reason, "nothing_to_do");
  EXPECT_NE(none.none->message.find("all 2 open units of round 0 of tiny are being computed by others"),
            std::string::npos)
      << none.none->message;
  EXPECT_GE(none.none->retry_after_s, 1u);
  EXPECT_LE(none.none->retry_after_s, 5u);
  EXPECT_EQ(status().units_out, 3u);
}

TEST_F(Leases, WhileARoundIsClosedToBeAskedForAgainAtOnce) {
  create(tiny_job());
  Rig a = rig("alice"), b = rig("bob"), c = rig("carol");
  const protocol::Lease first = a.take(), second = b.take();
  EXPECT_EQ(c.take().unit.name, "tiny.0.e0");
  a.work(first);
  b.work(second);
  const protocol::LeaseAnswer none = a.ask();
  ASSERT_TRUE(none.none);
  EXPECT_NE(none.none->message.find("round 0 of tiny is being closed"), std::string::npos) << none.none->message;
  EXPECT_EQ(none.none->retry_after_s, 0u);
  advance();
  EXPECT_EQ(a.take().unit.name, "tiny.1.t0");
}

TEST_F(Leases, HeldLeasesComeBackFirst) {
  create(tiny_job());
  Rig a = rig("alice");
  const protocol::LeaseRequest request = a.request();
  const protocol::Lease first = *a.ask(request).lease;
  EXPECT_EQ(a.ask(request).lease->lease, first.lease);
  EXPECT_EQ(a.take().lease, first.lease);  // another request: it holds this one
  a.instance = protocol::random_hex16();   // a restart
  EXPECT_EQ(a.take().lease, first.lease);
  clock.time += 70;  // lapsed, but the same request
  EXPECT_EQ(a.ask([&] {
               protocol::LeaseRequest again = request;
               again.instance = a.instance;
               return again;
             }())
                .lease->lease,
            first.lease);
  a.work(first);
  EXPECT_EQ(a.ask().lease->unit.name, "tiny.0.t1");
}

TEST_F(Leases, ARigMayWorkOnSeveralUnits) {
  create(tiny_job());
  Rig a = rig("alice");
  protocol::LeaseRequest request = a.request();
  std::vector<std::string> units;
  for (int i = 0; i < 3; ++i) {
    request.request_id = protocol::random_hex16();
    const protocol::Lease lease = *a.ask(request).lease;
    units.push_back(lease.unit.name);
    request.leases.push_back(lease.lease);
    clock.time += 1;  // the older is the first
  }
  EXPECT_EQ(units, (std::vector<std::string>{"tiny.0.t0", "tiny.0.t1", "tiny.0.e0"}));
  const auto next = [&] {
    request.request_id = protocol::random_hex16();
    return a.ask(request);
  };
  EXPECT_TRUE(next().none);
  const std::string first = request.leases.front();
  request.leases.erase(request.leases.begin());
  EXPECT_EQ(next().lease->lease, first) << "one that the agent does not know of, its answer was lost";
  request.leases.push_back(first);
  clock.time += 50;
  for (const std::string& lease : request.leases) EXPECT_TRUE(pool->renew(a.identity, lease, {}).wanted);
  EXPECT_TRUE(next().none) << "no copies of what it computes itself";
  clock.time += 61;
  EXPECT_TRUE(next().none) << "nor where its renewals did not come in time";
  request.leases = {std::string(32, 'f')};
  EXPECT_EQ(next().lease->lease, first) << "leases of others do not matter";
}

TEST_F(Leases, AKeyHoldsSixteenLeases) {
  JobRequest many = tiny_job();
  many.description.units_per_round = 20;
  create(many);
  Rig a = rig("alice");
  std::vector<std::string> leases;
  const auto next = [&] {
    protocol::LeaseRequest request = a.request();
    request.leases = leases;
    const protocol::LeaseAnswer answer = a.ask(request);
    if (answer.lease) leases.push_back(answer.lease->lease);
    return answer;
  };
  for (int i = 0; i < 16; ++i) EXPECT_TRUE(next().lease) << i;
  const protocol::LeaseAnswer none = next();
  ASSERT_TRUE(none.none);
  EXPECT_EQ(none.none->message, "this rig holds 16 leases, the most that one may");
  clock.time += 61;
  EXPECT_TRUE(next().none) << "they are in work, though no renewal came";
  clock.time += 61;
  leases.clear();
  EXPECT_TRUE(next().lease) << "they have lapsed";
}

TEST_F(Leases, ALapsedUnitGoesToAnotherAndTheFirstResultWins) {
  create(tiny_job());
  Rig a = rig("alice"), b = rig("bob"), c = rig("carol");
  const protocol::Lease first = a.take();
  b.take();
  c.take();
  clock.time += 50;
  EXPECT_TRUE(pool->renew(a.identity, first.lease, {0.5}).wanted);
  clock.time += 50;  // a's renewal holds, the others have lapsed
  Rig d = rig("dave");
  EXPECT_EQ(d.take().unit.name, "tiny.0.t1");
  clock.time += 20;
  Rig e = rig("erin");
  const protocol::Lease second = e.take();
  EXPECT_EQ(second.unit.name, first.unit.name);
  EXPECT_EQ(second.attempt, 2u);
  EXPECT_EQ(e.work(second).outcome, protocol::Outcome::accepted);
  EXPECT_FALSE(pool->renew(a.identity, first.lease, {0.9}).wanted);
  const protocol::Receipt late = a.work(first);
  EXPECT_EQ(late.outcome, protocol::Outcome::superseded);
  EXPECT_EQ(late.price, 0u);
}

TEST_F(Leases, IdleRigsGetCopiesOfSlowUnits) {
  create(tiny_job());
  Rig a = rig("alice"), b = rig("bob"), c = rig("carol"), d = rig("dave");
  const protocol::Lease slow = a.take();
  b.work(b.take());
  c.work(c.take());
  EXPECT_EQ(reason(d), "nothing_to_do");
  clock.time += 10;
  pool->renew(a.identity, slow.lease, {});
  const protocol::Lease copy = d.take();
  EXPECT_EQ(copy.unit.name, slow.unit.name);
  EXPECT_EQ(copy.attempt, 2u);
  EXPECT_EQ(a.work(slow).outcome, protocol::Outcome::accepted);
  EXPECT_EQ(d.work(copy).outcome, protocol::Outcome::superseded);
  advance();
  EXPECT_EQ(status().rounds_done, 1u);
}

TEST_F(Leases, WhoSaysThatItIsSlowDoesNotHoldAUnitForHours) {
  create(tiny_job());
  std::vector<std::pair<Rig, std::vector<std::string>>> hostile;  // keys and their leases
  const auto hold = [&](double seconds) {                         // a new key takes all that it gets
    hostile.emplace_back(rig("mallory"), std::vector<std::string>());
    auto& [key, leases] = hostile.back();
    for (;;) {
      protocol::LeaseRequest request = key.request();
      request.kinds = {"train"};
      request.flops = flops_for(seconds);
      request.leases = leases;
      const protocol::LeaseAnswer answer = key.ask(request);
      if (!answer.lease) return leases.size();
      leases.push_back(answer.lease->lease);
    }
  };
  const auto wait = [&](int64_t seconds) {
    for (const int64_t end = clock.time + seconds; clock.time < end;) {
      clock.time += std::min<int64_t>(40, end - clock.time);
      for (const auto& [key, leases] : hostile) {
        for (const std::string& lease : leases) pool->renew(key.identity, lease, {});
      }
    }
  };
  Rig honest = rig("alice");
  const auto train = [](protocol::LeaseRequest& r) { r.kinds = {"train"}; };
  EXPECT_EQ(hold(3500), 2u);
  wait(603);
  EXPECT_EQ(reason(honest, train), "nothing_to_do");
  wait(1);
  for (int copies = 0; copies < 3; ++copies) {
    EXPECT_EQ(hold(20), 2u) << "a copy goes to the first who asks";
    wait(44);
  }
  EXPECT_EQ(reason(honest, train), "nothing_to_do");
  wait(560);
  EXPECT_EQ(reason(honest, train), "lease of tiny.0.t0") << "four leases are out, but all are overdue";
  honest.work(honest.take());
  EXPECT_EQ(reason(honest, train), "lease of tiny.0.t1");
}

TEST_F(Leases, ARigOfAQuarterOfTheSpeedIsNotCopied) {
  create(tiny_job());
  Rig slow = rig("alice"), fast = rig("bob");
  protocol::LeaseRequest request = slow.request();
  request.flops = flops_for(400);
  const protocol::Lease lease = *slow.ask(request).lease;
  const auto as_fast = [&](protocol::LeaseRequest& r) { r.kinds = {"train"}, r.flops = flops_for(100); };
  EXPECT_EQ(reason(fast, as_fast), "lease of tiny.0.t1");
  fast.work(fast.take());
  const auto wait = [&](int64_t seconds) {
    for (int64_t i = 0; i < seconds; ++i) {
      clock.time += 1;
      pool->renew(slow.identity, lease.lease, {});
    }
  };
  wait(803);
  EXPECT_EQ(reason(fast, as_fast).substr(0, 5), "nothi");
  wait(1);
  EXPECT_EQ(reason(fast, as_fast), "lease of tiny.0.t0") << "twice its own estimate";
}

TEST_F(Leases, DeadlineReleaseAndUnknown) {
  create(tiny_job());
  Rig a = rig("alice"), b = rig("bob");
  const protocol::Lease lease = a.take();
  EXPECT_EQ(code_of([&] { pool->renew(b.identity, lease.lease, {}); }), ErrorCode::lease_unknown);
  EXPECT_EQ(code_of([&] { pool->release(b.identity, lease.lease, {}); }), ErrorCode::lease_unknown);
  const uint64_t deadline = lease.deadline_s;
  for (uint64_t t = 0; t + 50 < deadline; t += 50) {
    clock.time += 50;
    const protocol::RenewalAnswer answer = pool->renew(a.identity, lease.lease, {});
    EXPECT_TRUE(answer.wanted);
    EXPECT_LT(answer.deadline_s, deadline);
  }
  clock.time += 60;
  EXPECT_EQ(pool->renew(a.identity, lease.lease, {}).deadline_s, 0u);
  EXPECT_EQ(b.take().unit.name, lease.unit.name);  // past the deadline no renewal keeps it
  EXPECT_EQ(a.work(lease).outcome, protocol::Outcome::accepted);

  Rig c = rig("carol");
  const protocol::Lease given_back = c.take();
  pool->release(c.identity, given_back.lease, {"shutting down"});
  pool->release(c.identity, given_back.lease, {"shutting down"});
  EXPECT_FALSE(pool->renew(c.identity, given_back.lease, {}).wanted);
  Rig d = rig("dave");
  EXPECT_EQ(d.take().unit.name, given_back.unit.name);
}

TEST_F(Leases, AClonedDiskIsTold) {
  create(tiny_job());
  Rig a = rig("alice");
  Rig clone = a;
  clone.instance = protocol::random_hex16();
  a.take();
  clone.take();
  EXPECT_EQ(code_of([&] { a.ask(); }), ErrorCode::duplicate_instance);
  EXPECT_EQ(code_of([&] { a.ask(); }), ErrorCode::duplicate_instance);
  clone.take();
}

TEST_F(Leases, TakenAndGivenBackAgainAndAgainLeavesOneRow) {
  create(tiny_job());
  Rig a = rig("alice");
  uint64_t attempt = 0;
  for (int i = 0; i < 50; ++i) {
    const protocol::Lease lease = a.take();
    EXPECT_EQ(lease.unit.name, "tiny.0.t0");
    EXPECT_GT(lease.attempt, attempt);
    attempt = lease.attempt;
    pool->release(a.identity, lease.lease, {});
  }
  EXPECT_EQ(number("SELECT count(*) FROM leases"), 1);
  EXPECT_EQ(a.work(a.take()).outcome, protocol::Outcome::accepted);
}

TEST_F(Leases, OnlyTheNewestStartsOfAKeyAreKept) {
  create(tiny_job());
  Rig a = rig("alice");
  Rig newest = a;
  for (int start = 0; start < 200; ++start) {
    newest.instance = protocol::random_hex16();
    newest.take();
    if (start == 150) a = newest;
  }
  EXPECT_EQ(number("SELECT count(*) FROM instances"), 64);
  EXPECT_EQ(code_of([&] { a.ask(); }), ErrorCode::duplicate_instance) << "49 starts later it is still known";
  newest.take();
}

TEST_F(Leases, OnlyWhatFits) {
  create(tiny_job());
  Rig a = rig("alice");
  EXPECT_EQ(reason(a, [](auto& r) { r.profiles = {"exact-int8/1"}; }), "does_not_fit");
  EXPECT_EQ(reason(a, [](auto& r) { r.codecs = {"fp32"}; }), "does_not_fit");
  EXPECT_EQ(reason(a, [](auto& r) { r.kinds = {}; }), "does_not_fit");
  EXPECT_EQ(reason(a, [](auto& r) { r.memory_bytes = 1000; }), "does_not_fit");
  EXPECT_EQ(reason(a, [](auto& r) { r.flops = 1; }), "does_not_fit");
  EXPECT_EQ(reason(a, [](auto& r) { r.kinds = {"evaluate"}; }), "lease of tiny.0.e0");
  EXPECT_EQ(code_of([&] {
              protocol::LeaseRequest old = a.request();
              old.agent = "gradminer/0.0.1";
              a.ask(old);
            }),
            ErrorCode::agent_too_old);
}

TEST_F(Leases, OnlyRigsThatKnowTheCodec) {
  JobRequest job = tiny_job();
  job.description.codec = "int8";
  create(job);
  Rig a = rig("alice");
  protocol::LeaseRequest request = a.request();
  request.codecs = {"fp32", "int4"};
  const protocol::LeaseAnswer answer = a.ask(request);
  ASSERT_TRUE(answer.none);
  EXPECT_EQ(answer.none->reason, "does_not_fit");
  EXPECT_NE(answer.none->message.find("need the codec int8"), std::string::npos) << answer.none->message;
  // An evaluation's losses are in fp32, and its weights come in updates of the job's codec.
  for (const char* codec : {"fp32", "int8"}) {
    EXPECT_EQ(reason(a, [&](auto& r) { r.kinds = {"evaluate"}, r.codecs = {codec}; }), "does_not_fit") << codec;
  }
  EXPECT_EQ(reason(a, [](auto& r) { r.kinds = {"evaluate"}; }), "lease of tiny.0.e0");
  Rig b = rig("bob");
  EXPECT_EQ(reason(b, [](auto& r) { r.codecs = {"int8"}; }), "lease of tiny.0.t0");
}

TEST_F(Leases, ReasonsOfAPoolWithoutWork) {
  Rig a = rig("alice");
  EXPECT_EQ(reason(a), "no_job");
  create(tiny_job());
  pause_job(*core, "tiny");
  EXPECT_EQ(reason(a), "paused");
  cancel_job(*core, "tiny");
  EXPECT_EQ(reason(a), "no_job");
  JobRequest poor = tiny_job("poor");
  poor.budget = 1;
  create(poor);
  EXPECT_EQ(reason(a), "unfunded");
}

TEST_F(Leases, UnitsWhoseWeightsCannotBeGivenAreLeftOut) {
  JobRequest request = tiny_job();
  request.description.rounds = 8;
  create(request);
  Rig a = rig("alice"), b = rig("bob"), c = rig("carol"), d = rig("dave"), e = rig("erin"), f = rig("frank");
  const auto only = [](const char* kind) { return [kind](protocol::LeaseRequest& r) { r.kinds = {kind}; }; };
  while (status().rounds_done < 5) {
    protocol::LeaseRequest training = a.request();
    only("train")(training);
    a.work(*a.ask(training).lease);
    advance();
  }
  core->store.write([](Db& db) {  // of rounds 1 and 2 there is no checkpoint any more
    db.exec("UPDATE updates SET kept = 0 WHERE round = 0");
    db.exec("INSERT INTO checks (unit, opened) SELECT id, 0 FROM units WHERE name IN ('tiny.1.t0', 'tiny.3.t0')");
  });
  EXPECT_EQ(reason(b), "lease of tiny.0.e0") << "not the check of round 1, which is overdue";
  EXPECT_EQ(reason(c, only("evaluate")), "lease of tiny.4.e0");
  d.held = {{"tiny", 2}};
  EXPECT_EQ(reason(d, only("evaluate")), "lease of tiny.2.e0") << "it needs no files";
  d.held.clear();
  EXPECT_EQ(reason(d, only("evaluate")), "does_not_fit") << "now it would need them";
  EXPECT_EQ(reason(e, only("train")), "lease of tiny.5.t0");
  EXPECT_EQ(reason(f, only("train")), "lease of tiny.5.t1");
  Rig g = rig("grace");
  EXPECT_EQ(reason(g, only("train")), "lease of tiny.3.t0");
  clock.time += 61;
  run({&b, &c});
  EXPECT_EQ(status().state, "completed") << "without the evaluation of round 2";
  EXPECT_EQ(number("SELECT count(*) FROM checks WHERE state = 'expired'"), 1);
}

TEST_F(Leases, WeightsComeFromTheFewestBytes) {
  JobRequest request = tiny_job();
  request.description.rounds = 6;
  create(request);
  Rig a = rig("alice"), late = rig("bob");
  while (status().rounds_done < 4) {
    a.work(a.take());
    advance();
  }
  const auto source = [&](Rig& rig, std::vector<protocol::HeldWeights> held) {
    protocol::LeaseRequest ask = rig.request();
    ask.held = std::move(held);
    const protocol::Lease lease = *rig.ask(ask).lease;
    pool->release(rig.identity, lease.lease, {});
    EXPECT_EQ(lease.unit.weights.round, 4u);
    return lease.unit.weights;
  };
  const protocol::WeightsSource joiner = source(late, {});
  ASSERT_TRUE(joiner.checkpoint);
  EXPECT_EQ(joiner.checkpoint->round, 4u);
  EXPECT_TRUE(joiner.updates.empty());
  EXPECT_FALSE(source(a, {{"tiny", 4}}).checkpoint);
  EXPECT_TRUE(source(a, {{"tiny", 4}}).updates.empty());
  const protocol::WeightsSource behind = source(a, {{"tiny", 1}, {"other", 4}});
  EXPECT_FALSE(behind.checkpoint);
  ASSERT_EQ(behind.updates.size(), 3u);
  EXPECT_EQ(behind.updates[0].round, 1u);
  EXPECT_EQ(behind.updates[2].weights, behind.digest);
  EXPECT_TRUE(source(a, {{"tiny", 9}}).checkpoint);  // ahead of the pool: of no use
  run({&late, &a});                                  // and they do give the digest
  EXPECT_EQ(status().state, "completed");
}

}  // namespace
}  // namespace pool::testing
