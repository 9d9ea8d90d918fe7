// Lies are found by repetition, cost what was earned, and do not stop the honest (docs/security.md).
#include "checks.h"

#include "fake_rig.h"
#include "jobs.h"
#include "ledger.h"

namespace pool::testing {
namespace {

class Checks : public PoolFixture {
 protected:
  JobRequest checked_job(uint64_t rounds = 4) {
    JobRequest request = tiny_job();
    request.description.rounds = rounds;
    request.description.check_share_ppm = 1'000'000;
    return request;
  }
  std::string state_of(const Rig& rig) {
    for (const RigStatus& status : pool->status().rigs) {
      if (status.identity.key == rig.identity.key) return status.state;
    }
    return "unknown";
  }
  int64_t balance(const std::string& account) {
    return core->store.read([&](Db& db) { return ledger::balance(db, account); });
  }
  // Everyone works until the job ends; liars answer every train unit wrongly, until they are barred.
  void run_with_liars(std::vector<Rig*> honest, std::vector<Rig*> liars) {
    for (int turn = 0; turn < 500 && status().state == "running"; ++turn) {
      for (Rig* rig : liars) {
        if (state_of(*rig) != "active") continue;
        const protocol::LeaseAnswer answer = rig->ask();
        if (answer.lease) rig->deliver(rig->lie(*answer.lease));
        advance();
      }
      for (Rig* rig : honest) {
        const protocol::LeaseAnswer answer = rig->ask();
        if (answer.lease) rig->work(*answer.lease);
        advance();
      }
      clock.time += 1;
    }
  }
};

TEST_F(Checks, HonestRigsPassEveryCheckAndAllIsPaid) {
  create(checked_job());
  Rig a = rig("alice"), b = rig("bob");
  run({&a, &b});
  const JobStatus job = status();
  EXPECT_EQ(job.state, "completed");
  EXPECT_EQ(job.checks_done, 4u * 2 + 3);  // every unit, and evaluations of 0, 2 and 4
  EXPECT_EQ(job.checks_failed, 0u);
  const uint64_t once = 8 * job.description.price_train + 3 * job.description.price_evaluate;
  EXPECT_EQ(job.spent, 2 * once);  // a check is paid like the unit
  EXPECT_EQ(balance("account:alice"), static_cast<int64_t>(job.earned.at("alice")));
  EXPECT_EQ(balance("account:bob"), static_cast<int64_t>(job.earned.at("bob")));
  EXPECT_EQ(balance("escrow:alice") + balance("escrow:bob") + balance("job:tiny"), 0);
  EXPECT_EQ(balance("treasury"), -static_cast<int64_t>(job.spent));
  expect_books_balance();
}

TEST_F(Checks, ChecksAreOrdinaryLeasesToOtherAccounts) {
  create(checked_job());
  Rig a = rig("alice"), same_account = rig("alice"), b = rig("bob");
  const protocol::Lease first = a.take();
  a.work(first);
  EXPECT_NE(same_account.take().unit.name, first.unit.name);
  b.compute(first);  // so that it has the weights: the check comes first
  const protocol::Lease check = b.take();
  EXPECT_EQ(check.unit.name, first.unit.name);
  EXPECT_EQ(check.attempt, 2u);
  EXPECT_EQ(check.unit.price, first.unit.price);
  const protocol::Receipt receipt = b.work(check);
  EXPECT_EQ(receipt.outcome, protocol::Outcome::accepted);
  EXPECT_EQ(receipt.price, first.unit.price);
  EXPECT_EQ(status().checks_done, 1u);
}

TEST_F(Checks, AnAccountTakesPartInACheckOnce) {
  create(checked_job());
  Rig a = rig("alice"), b = rig("bob"), b2 = rig("bob"), c = rig("carol");
  const protocol::Lease first = a.take();
  a.deliver(a.lie(first));
  std::vector<protocol::Lease> checks;
  for (Rig* rig : {&b, &b2}) {  // one after the other has lapsed
    rig->compute(first);        // so that it has the weights: checks come first
    checks.push_back(rig->take());
    ASSERT_EQ(checks.back().unit.name, first.unit.name);
    clock.time += 61;
  }
  EXPECT_TRUE(pool->renew(b2.identity, checks[1].lease, {}).wanted);
  EXPECT_EQ(b.work(checks[0]).outcome, protocol::Outcome::accepted);
  EXPECT_FALSE(pool->renew(b2.identity, checks[1].lease, {}).wanted);
  EXPECT_EQ(b2.work(checks[1]).outcome, protocol::Outcome::superseded);
  EXPECT_EQ(balance("escrow:bob"), static_cast<int64_t>(first.unit.price));
  EXPECT_EQ(status().checks_done, 0u);  // one account against one
  c.compute(first);
  c.work(c.take());
  EXPECT_EQ(state_of(a), "barred");
  expect_books_balance();
}

TEST_F(Checks, ALiarIsBarredUnpaidAndTheHonestEarnOn) {
  create(checked_job());
  Rig a = rig("alice"), b = rig("bob"), mallory = rig("mallory");
  run_with_liars({&a, &b}, {&mallory});
  const JobStatus job = status();
  EXPECT_EQ(job.state, "completed");
  EXPECT_EQ(job.rounds_done, 4u);
  EXPECT_EQ(state_of(mallory), "barred");
  EXPECT_EQ(state_of(a), "active");
  EXPECT_EQ(state_of(b), "active");
  EXPECT_FALSE(job.earned.contains("mallory"));
  EXPECT_EQ(balance("account:mallory") + balance("escrow:mallory"), 0);
  EXPECT_GT(job.earned.at("alice"), 0u);
  EXPECT_GT(job.earned.at("bob"), 0u);
  EXPECT_GE(job.checks_failed, 1u);
  EXPECT_GE(job.units_rejected, 1u);
  const auto voided = pool->settlements(mallory.identity.key, 0);
  ASSERT_FALSE(voided.empty());
  const protocol::Settlement settlement = protocol::settlement_from_canonical(voided[0].document);
  EXPECT_FALSE(settlement.settled);
  EXPECT_TRUE(protocol::verify_document(voided[0], pool->info().public_keys[0].key));
  expect_books_balance();
}

TEST_F(Checks, ALyingCheckerIsBarredToo) {
  create(checked_job());
  Rig a = rig("alice"), mallory = rig("mallory"), c = rig("carol");
  const protocol::Lease first = a.take();
  a.work(first);
  mallory.compute(first);  // so that both have the weights: checks come first
  c.compute(first);
  const protocol::Lease check = mallory.take();
  EXPECT_EQ(check.unit.name, "tiny.0.t0");
  EXPECT_EQ(mallory.deliver(mallory.lie(check)).outcome, protocol::Outcome::accepted);
  EXPECT_EQ(status().checks_done, 0u);  // one against one
  const protocol::Lease third = c.take();
  EXPECT_EQ(third.unit.name, check.unit.name);
  c.work(third);
  EXPECT_EQ(status().checks_done, 1u);
  EXPECT_EQ(status().checks_failed, 1u);
  EXPECT_EQ(status().units_accepted, 1u);  // the accepted result was right and stays
  EXPECT_EQ(state_of(mallory), "barred");
  EXPECT_EQ(state_of(a), "active");
  EXPECT_EQ(balance("escrow:mallory"), 0);
  expect_books_balance();
}

TEST_F(Checks, AStaleCopyIsFound) {
  JobRequest request = checked_job();
  create(request);
  Rig a = rig("alice"), b = rig("bob"), mallory = rig("mallory");
  // Mallory sends her first, honest result of round 0 again for later units.
  const protocol::Lease lease = mallory.take();
  const Work first = mallory.compute(lease);
  mallory.deliver(first);
  for (int turn = 0; turn < 500 && status().state == "running"; ++turn) {
    if (state_of(mallory) == "active") {
      const protocol::LeaseAnswer answer = mallory.ask();
      if (answer.lease && answer.lease->unit.kind == protocol::UnitKind::train) {
        Work stale = first;
        stale.submission.lease = answer.lease->lease;
        stale.submission.unit = answer.lease->unit.name;
        stale.submission.attempt = answer.lease->attempt;
        mallory.deliver(stale);
      } else if (answer.lease) {
        pool->release(mallory.identity, answer.lease->lease, {});
      }
    }
    for (Rig* rig : {&a, &b}) {
      if (const protocol::LeaseAnswer answer = rig->ask(); answer.lease) rig->work(*answer.lease);
      advance();
    }
    clock.time += 1;
  }
  EXPECT_EQ(status().state, "completed");
  EXPECT_EQ(state_of(mallory), "barred");
  EXPECT_EQ(balance("account:mallory") + balance("escrow:mallory"), 0);  // the honest one was not settled yet either
  expect_books_balance();
}

TEST_F(Checks, ALateHonestResultExposesAnEarlierLie) {
  JobRequest request = tiny_job();  // no checks are drawn
  create(request);
  Rig a = rig("alice"), mallory = rig("mallory"), c = rig("carol");
  const protocol::Lease honest = a.take();
  clock.time += 61;
  const protocol::Lease again = mallory.take();
  ASSERT_EQ(again.unit.name, honest.unit.name);
  mallory.deliver(mallory.lie(again));
  EXPECT_EQ(a.work(honest).outcome, protocol::Outcome::superseded);
  c.compute(honest);
  const protocol::Lease third = c.take();
  EXPECT_EQ(third.unit.name, honest.unit.name);
  c.work(third);
  EXPECT_EQ(state_of(mallory), "barred");
  EXPECT_EQ(status().checks_failed, 1u);
  EXPECT_EQ(status().units_accepted, 1u);  // the round was open still: the third result took the place of the lie
  run({&a, &c});
  EXPECT_EQ(status().state, "completed");
}

TEST_F(Checks, ABarReopensOnlyTheEvaluationsThatItVoids) {
  JobRequest request = tiny_job();  // no checks are drawn
  request.description.rounds = 12;
  request.description.units_per_round = 1;
  request.description.evaluate_every = 1;
  create(request);
  Rig b = rig("bob"), c = rig("carol"), mallory = rig("mallory");
  advance();
  while (status().rounds_done < 10) {
    mallory.work(mallory.take());
    advance();
  }
  ASSERT_EQ(number("SELECT count(*) FROM results WHERE pay = 'settled'"), 4);  // of rounds 0 and 1
  core->store.write([](Db& db) {
    execute(db, "INSERT INTO checks (unit, opened) SELECT id, 0 FROM units WHERE name = 'tiny.5.e0'");
  });
  const protocol::Lease check = b.take();
  ASSERT_EQ(check.unit.name, "tiny.5.e0");
  b.work(check);
  EXPECT_EQ(status().checks_done, 1u);

  // Two late results of the open round expose a lie.
  const auto take_train = [](Rig& rig) {
    protocol::LeaseRequest train = rig.request();
    train.kinds = {"train"};
    return *rig.ask(train).lease;
  };
  const protocol::Lease of_b = take_train(b);
  pool->release(b.identity, of_b.lease, {});
  const protocol::Lease of_c = take_train(c);
  pool->release(c.identity, of_c.lease, {});
  mallory.deliver(mallory.lie(take_train(mallory)));
  b.work(of_b);
  c.work(of_c);
  ASSERT_EQ(state_of(mallory), "barred");

  EXPECT_EQ(number("SELECT count(*) FROM units WHERE kind = 'evaluate' AND round < 2 AND accepted IS NULL"), 0);
  EXPECT_EQ(number("SELECT count(*) FROM units u JOIN results r ON r.id = u.accepted WHERE name = 'tiny.5.e0' AND "
                   "r.account = 'bob' AND r.pay = 'escrowed'"),
            1);
  EXPECT_EQ(number("SELECT count(*) FROM units WHERE kind = 'evaluate' AND round BETWEEN 2 AND 9 AND accepted IS NULL"),
            7);
  EXPECT_EQ(number("SELECT count(*) FROM units WHERE name = 'tiny.10.t0' AND accepted IS NULL"), 1);
  run({&b, &c});
  EXPECT_EQ(status().state, "completed");
  EXPECT_EQ(status().validation_loss.size(), 13u);
  // What mallory's rounds 0 and 1 and the others' 10 and 11 cost; each evaluation is paid once, that of round 5 to bob.
  const protocol::JobDescription d = status().description;
  EXPECT_EQ(status().spent, 4 * d.price_train + 13 * d.price_evaluate);
  expect_books_balance();
}

TEST_F(Checks, OneAccountAloneFinishes) {
  create(checked_job());
  Rig a = rig("alice");
  run({&a});
  EXPECT_EQ(status().state, "completed");
  EXPECT_EQ(status().checks_done, 0u);
  EXPECT_EQ(balance("account:alice"), static_cast<int64_t>(status().earned.at("alice")));
  expect_books_balance();
}

TEST_F(Checks, TwoAccountsThatDifferAreBothUnpaid) {
  create(checked_job(1));
  Rig a = rig("alice"), mallory = rig("mallory");
  run_with_liars({&a}, {&mallory});
  for (int i = 0; i < 20 && status().state == "running"; ++i) {
    clock.time += 100;
    advance();
  }
  EXPECT_EQ(status().state, "completed");
  EXPECT_EQ(state_of(mallory), "active");  // nobody could decide
  EXPECT_EQ(balance("escrow:alice") + balance("escrow:mallory"), 0);
  EXPECT_GT(number("SELECT count(*) FROM results WHERE pay = 'voided' AND account = 'mallory'"), 0);
  EXPECT_GT(number("SELECT count(*) FROM results WHERE pay = 'voided' AND account = 'alice'"), 0);
  expect_books_balance();
}

TEST_F(Checks, ACancelledJobPaysNeitherSideOfADispute) {
  create(checked_job());
  Rig a = rig("alice"), mallory = rig("mallory");
  const protocol::Lease disputed = a.take();
  a.work(disputed);
  const protocol::Lease undisputed = a.take();
  a.work(undisputed);
  mallory.compute(disputed);  // so that it has the weights: checks come first
  const protocol::Lease check = mallory.take();
  ASSERT_EQ(check.unit.name, disputed.unit.name);
  mallory.deliver(mallory.lie(check));
  cancel_job(*core, "tiny");
  EXPECT_EQ(balance("account:alice"), static_cast<int64_t>(undisputed.unit.price));
  EXPECT_EQ(balance("account:mallory") + balance("escrow:alice") + balance("escrow:mallory"), 0);
  EXPECT_EQ(balance("treasury"), -static_cast<int64_t>(undisputed.unit.price));
  EXPECT_EQ(number("SELECT count(*) FROM results WHERE pay = 'voided'"), 2);
  EXPECT_EQ(number("SELECT count(*) FROM checks WHERE state = 'expired'"), 2);
  EXPECT_EQ(state_of(mallory), "active");
  expect_books_balance();
}

TEST_F(Checks, NewKeysAreCheckedMoreThanTheShare) {
  JobRequest request = tiny_job();
  request.description.rounds = 60;
  request.description.units_per_round = 1;
  request.description.check_share_ppm = 1;
  create(request);
  int64_t checked_early = 0, checked_late = 0;
  for (int i = 0; i < 20; ++i) {  // 3 results of each of 20 keys
    Rig fresh = rig("alice");
    protocol::LeaseRequest train = fresh.request();
    for (int n = 0; n < 3; ++n) {
      train = fresh.request();
      train.kinds = {"train"};
      fresh.work(*fresh.ask(train).lease);
      advance();
    }
  }
  checked_early = number("SELECT count(*) FROM checks");
  EXPECT_GT(checked_early, 10);  // of 60 at one half: below 11 once in 10^7 runs
  EXPECT_LT(checked_early, 50);
  request.description.job = "late";
  create(request);
  Rig old = rig("bob");
  run({&old}, "late", 70);
  checked_late = number("SELECT count(*) FROM checks c JOIN units u ON u.id = c.unit WHERE u.job = 'late'");
  EXPECT_LE(checked_late, 3);
}

}  // namespace
}  // namespace pool::testing
