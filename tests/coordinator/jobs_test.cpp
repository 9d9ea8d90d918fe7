// Whole jobs: the same weights however the work was spread, retention, pay, money and limits.
#include "jobs.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <fstream>
#include <thread>

#include "errors.h"
#include "fake_rig.h"
#include "kernels/files.h"
#include "ledger.h"
#include "protocol/json.h"

namespace pool::testing {
namespace {

class Jobs : public PoolFixture {
 protected:
  int64_t balance(const std::string& account) {
    return core->store.read([&](Db& db) { return ledger::balance(db, account); });
  }
  std::string refusal(const std::function<void(JobRequest&)>& change) {
    JobRequest request = tiny_job("refused");
    change(request);
    try {
      create(request);
    } catch (const Failure& failure) {
      return failure.what();
    }
    return "";
  }
};

class Spread : public Jobs, public ::testing::WithParamInterface<uint64_t> {};

TEST_P(Spread, WeightsDoNotDependOnWhoDidWhatInWhichOrder) {
  const uint64_t lanes = GetParam();
  const auto make = [&](const std::string& name) {
    JobRequest request = tiny_job(name);
    request.description.units_per_round = 3;
    request.description.lanes_per_unit = lanes;
    create(request);
  };
  make("one");
  Rig a = rig("alice"), b = rig("bob"), c = rig("carol");
  run({&a}, "one");
  EXPECT_EQ(status("one").state, "completed");
  const std::vector<std::string> expected = weights_digests("one");
  EXPECT_EQ(expected.size(), 4u);

  // Three rigs, results in backward order, one rig lost on the way, the pool restarted before every call.
  make("three");
  for (int turn = 0; turn < 100 && status("three").state == "running"; ++turn) {
    std::vector<std::pair<Rig*, Work>> results;
    for (Rig* rig : {&a, &b, &c}) {
      reopen();
      const protocol::LeaseAnswer answer = rig->ask();
      if (!answer.lease) continue;
      if (turn == 1 && rig == &b) continue;  // never heard of again
      results.emplace_back(rig, rig->compute(*answer.lease));
    }
    for (auto result = results.rbegin(); result != results.rend(); ++result) {
      result->first->upload(result->second);
      reopen();
      result->first->submit(result->second);
    }
    reopen();
    pool->advance();
    clock.time += 61;
  }
  EXPECT_EQ(status("three").state, "completed");
  EXPECT_EQ(weights_digests("three"), expected);
  expect_books_balance();
}
INSTANTIATE_TEST_SUITE_P(Lanes, Spread, ::testing::Values(1, 2, 3, 8));

TEST_F(Jobs, ManyThreadsAtOnce) {
  JobRequest request = tiny_job("expected");
  request.description.rounds = 6;
  request.description.check_share_ppm = 300'000;
  create(request);
  Rig alone = rig("alice");
  run({&alone}, "expected");
  request.description.job = "tiny";
  create(request);
  std::atomic<bool> over = false;
  const auto work = [&](Rig rig) {
    while (!over) {
      if (const protocol::LeaseAnswer answer = rig.ask(); answer.lease) rig.work(*answer.lease);
    }
  };
  std::vector<std::thread> threads;
  for (const char* account : {"alice", "bob", "carol", "dave"}) threads.emplace_back(work, rig(account));
  for (int i = 0; i < 60000 && status().state == "running"; ++i) {
    if (!pool->advance()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    pool->status();
  }
  over = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(status().state, "completed");
  EXPECT_EQ(weights_digests(), weights_digests("expected"));
  EXPECT_EQ(status().checks_failed, 0u);
  expect_books_balance();
}

TEST_F(Jobs, TrainsAndSignsAChainOfRecords) {
  JobRequest request = tiny_job();
  request.description.rounds = 8;
  request.description.inner->lr = 5e-3;
  create(request);
  Rig a = rig("alice");
  run({&a});
  const JobStatus job = status();
  EXPECT_EQ(job.state, "completed");
  ASSERT_EQ(job.validation_loss.size(), 5u);  // 0, 2, 4, 6 and the last
  EXPECT_EQ(job.validation_loss.back().first, 8u);
  EXPECT_LT(job.validation_loss.back().second, job.validation_loss.front().second);
  EXPECT_EQ(job.training_loss.size(), 8u);
  EXPECT_EQ(job.tokens, 8u * 2 * 2 * 2 * 8);
  EXPECT_EQ(job.units_accepted, 16u + 5);

  const protocol::PublicKey key = pool->info().public_keys[0].key;
  const protocol::SignedDocument description = pool->job("tiny");
  EXPECT_TRUE(protocol::verify_document(description, key));
  const std::vector<std::string> weights = weights_digests();
  protocol::Digest previous{};
  for (uint64_t round = 0; round < 8; ++round) {
    const protocol::SignedDocument document = pool->record("tiny", round);
    EXPECT_TRUE(protocol::verify_document(document, key));
    const protocol::RoundRecord record = protocol::round_record_from_canonical(document.document);
    EXPECT_EQ(record.previous, previous);
    EXPECT_EQ(record.job_digest, protocol::sha256(description.document));
    EXPECT_EQ(protocol::to_hex(record.weights), weights[round + 1]);
    EXPECT_EQ(record.checkpoint.round, round + 1);
    previous = protocol::sha256(document.document);
  }
  EXPECT_THROW(pool->record("tiny", 8), protocol::Error);
  EXPECT_THROW(pool->job("none"), protocol::Error);
}

TEST_F(Jobs, PlainGradientsWithOuterAdamW) {
  JobRequest request = tiny_job();
  request.description.rounds = 12;
  request.description.steps = 1;
  request.description.codec = "fp32";
  request.description.outer.name = "adamw";
  request.description.outer.lr = 1e-2;
  create(request);
  EXPECT_FALSE(status().description.inner);
  Rig a = rig("alice"), b = rig("bob");
  run({&a, &b});
  EXPECT_EQ(status().state, "completed");
  EXPECT_LT(status().validation_loss.back().second, status().validation_loss.front().second - 0.1);
}

TEST_F(Jobs, TheProfileIsTheOwnersChoice) {
  create(tiny_job("fp32"));
  JobRequest request = tiny_job("int8");
  request.description.profile = "exact-int8";
  EXPECT_EQ(create(request).description.profile, "exact-int8/1");
  Rig a = rig("alice"), b = rig("bob");
  run({&a, &b}, "fp32");
  run({&a, &b}, "int8");
  EXPECT_EQ(status("int8").state, "completed");
  EXPECT_NE(weights_digests("int8").back(), weights_digests("fp32").back());
  EXPECT_NEAR(status("int8").validation_loss.back().second, status("fp32").validation_loss.back().second, 0.02);
  EXPECT_GT(core->store.read([&](Db& db) { return core->job(db, "int8")->train_memory; }),
            core->store.read([&](Db& db) { return core->job(db, "fp32")->train_memory; }));
}

TEST_F(Jobs, PayIsSettledAfterEightRounds) {
  JobRequest request = tiny_job();
  request.description.rounds = 12;
  request.description.evaluate_every = 100;
  create(request);
  Rig a = rig("alice");
  const auto price = static_cast<int64_t>(status().description.price_train);
  for (int64_t round = 0; round < 10; ++round) {
    while (status().rounds_done == static_cast<uint64_t>(round)) {
      protocol::LeaseRequest train = a.request();
      train.kinds = {"train"};
      a.work(*a.ask(train).lease);
      advance();
    }
    const int64_t settled = round >= 8 ? round - 7 : 0;  // rounds 0 … round − 8
    EXPECT_EQ(balance("account:alice"), 2 * settled * price);
    EXPECT_EQ(balance("escrow:alice"), 2 * (round + 1 - settled) * price);
  }
  const auto documents = pool->settlements(a.identity.key, 0);
  ASSERT_EQ(documents.size(), 4u);
  const auto last = protocol::settlement_from_canonical(documents[3].document);
  EXPECT_TRUE(last.settled);
  EXPECT_EQ(last.unit, "tiny.1.t1");
  EXPECT_EQ(last.amount, static_cast<uint64_t>(price));
  EXPECT_EQ(pool->settlements(a.identity.key, last.sequence).size(), 0u);
  EXPECT_EQ(number("SELECT count(*) FROM settlements s JOIN results r ON r.id = s.result WHERE s.key = r.key"), 4);

  run({&a});  // the end of the job settles the rest and gives the budget back
  EXPECT_EQ(balance("escrow:alice"), 0);
  EXPECT_EQ(balance("job:tiny"), 0);
  EXPECT_EQ(balance("account:alice"), -balance("treasury"));
  expect_books_balance();
}

TEST_F(Jobs, KeepsWhatItMustAndNoMore) {
  JobRequest request = tiny_job();
  request.description.rounds = 54;
  request.description.units_per_round = 1;
  request.description.evaluate_every = 1000;
  create(request);
  Rig a = rig("alice");
  run({&a});
  ASSERT_EQ(status().rounds_done, 54u);
  const auto rounds_kept = [&](const char* table) {
    return core->store.read([&](Db& db) {
      Statement rows(db, std::string("SELECT round, digest FROM ") + table + " WHERE kept ORDER BY round");
      std::vector<uint64_t> rounds;
      while (rows.executeStep()) {
        rounds.push_back(number_at(rows, 0));
        EXPECT_TRUE(std::filesystem::exists(core->store.blob_path(bytes_at(rows, 1))));
      }
      return rounds;
    });
  };
  EXPECT_EQ(rounds_kept("weights"), (std::vector<uint64_t>{0, 50, 52, 53, 54}));
  EXPECT_EQ(rounds_kept("updates").size(), 54u);  // since the oldest checkpoint
  EXPECT_EQ(number("SELECT min(u.round) FROM results r JOIN units u ON u.id = r.unit WHERE r.kept"), 46);
  EXPECT_EQ(number("SELECT count(*) FROM results"), 56);  // receipts stay
  int64_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path / "data" / "blobs")) {
    files += entry.is_regular_file() ? 1 : 0;
  }
  EXPECT_EQ(files, number("SELECT count(*) FROM blobs"));
  EXPECT_EQ(files, number("SELECT count(DISTINCT digest) FROM referenced_blobs"));
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path / "data" / "temporary"))
    EXPECT_TRUE(entry.is_directory()) << entry;
  // What is not published is not served: results, and the optimiser's state.
  core->store.read([&](Db& db) {
    Statement rows(db, "SELECT digest FROM results WHERE kept UNION SELECT momentum FROM outer_states");
    while (rows.executeStep()) EXPECT_FALSE(pool->published_blob(bytes_at(rows, 0)));
  });
}

TEST_F(Jobs, AnInterruptedCloseIsDoneAgain) {
  create(tiny_job("expected"));
  Rig a = rig("alice");
  run({&a}, "expected");
  create(tiny_job());
  a.work(a.take());
  a.work(a.take());
  // As if the pool had died after writing every file of the round and before the transaction.
  const std::filesystem::path data = folder.path / "data", copy = folder.path / "before";
  pool.reset();
  core.reset();
  std::filesystem::copy_file(data / "gradpool.db", copy);
  reopen();
  advance();
  pool.reset();
  core.reset();
  std::filesystem::rename(copy, data / "gradpool.db");
  reopen();
  EXPECT_EQ(status().rounds_done, 0u);
  run({&a});
  EXPECT_EQ(weights_digests(), weights_digests("expected"));
}

TEST_F(Jobs, NoRoundOpensUnfunded) {
  JobRequest request = tiny_job();
  const JobEstimate estimate = create_job(*core, request, true).estimate;
  EXPECT_EQ(estimate.checks, 0u);
  EXPECT_EQ(estimate.budget, estimate.work);
  request.budget = estimate.work / 2;
  create(request);
  Rig a = rig("alice");
  run({&a});
  EXPECT_EQ(status().state, "unfunded");
  EXPECT_NE(status().detail.find("--add-budget"), std::string::npos);
  EXPECT_EQ(a.ask().none->reason, "unfunded");
  EXPECT_LE(status().spent, *request.budget);
  resume_job(*core, "tiny", 1);
  EXPECT_EQ(status().state, "unfunded");
  resume_job(*core, "tiny", estimate.work);
  EXPECT_EQ(status().state, "running");
  run({&a});
  EXPECT_EQ(status().state, "completed");
  EXPECT_EQ(status().budget, *request.budget + 1 + estimate.work);
  EXPECT_EQ(balance("account:alice"), static_cast<int64_t>(estimate.work));
  expect_books_balance();
}

// Drawing more checks than the mean is no reason to stop: it happens to half of all jobs.
TEST_F(Jobs, TheBudgetCoversUnluckyDraws) {
  JobRequest request = tiny_job();
  request.description.rounds = 5000;
  request.description.units_per_round = 3;
  request.description.evaluate_every = 5000;
  request.description.check_share_ppm = 500'000;
  const CreatedJob plan = create_job(*core, request, true);
  const double units = 15'000, mean = units / 2, deviation = std::sqrt(units / 4);
  EXPECT_GE(static_cast<double>(plan.estimate.checks),
            (mean + 4 * deviation) * static_cast<double>(plan.description.price_train));
  EXPECT_LE(plan.estimate.checks, plan.estimate.work);
  EXPECT_EQ(plan.estimate.budget, plan.estimate.work + plan.estimate.checks);
}

TEST_F(Jobs, ChecksOfAPoorJobAreThePoolsExpense) {
  JobRequest request = tiny_job();
  request.description.check_share_ppm = 1'000'000;
  request.description.evaluate_every = 1000;
  const CreatedJob plan = create_job(*core, request, true);
  request.budget = 2 * plan.description.price_train + plan.description.price_evaluate;  // one round, nothing for checks
  create(request);
  Rig a = rig("alice"), b = rig("bob");
  run({&a, &b});
  EXPECT_EQ(status().state, "unfunded");
  EXPECT_EQ(status().rounds_done, 1u);
  for (Rig* rig : {&a, &b, &a, &b, &a, &b}) {  // no round opens, but what is open is finished
    if (const protocol::LeaseAnswer answer = rig->ask(); answer.lease) rig->work(*answer.lease);
  }
  EXPECT_EQ(status().checks_done, 3u);
  EXPECT_GE(balance("job:tiny"), 0);
  EXPECT_GT(status().spent, *request.budget);
  expect_books_balance();
}

TEST_F(Jobs, ADamagedFileStopsItsJobAndNoOther) {
  create(tiny_job());
  Rig a = rig("alice");
  const protocol::Lease lease = a.take();
  const protocol::Receipt receipt = a.work(lease);
  a.work(a.take());
  create(tiny_job("other"));
  const std::filesystem::path file = core->store.blob_path(receipt.result);
  const std::vector<uint8_t> content = read_file(file);
  std::vector<uint8_t> damaged = content;
  damaged[100] ^= 1;
  write_file(file, damaged);
  EXPECT_THROW(pool->advance(), Failure);
  Rig b = rig("bob");
  for (int i = 0; i < 2; ++i) {
    protocol::LeaseRequest train = b.request();
    train.kinds = {"train"};
    const protocol::Lease other = *b.ask(train).lease;
    EXPECT_EQ(other.unit.job, "other");
    b.work(other);
  }
  EXPECT_TRUE(pool->advance());
  EXPECT_EQ(status("other").rounds_done, 1u);
  write_file(file, content);
  advance();
  EXPECT_EQ(status().rounds_done, 1u);
}

TEST_F(Jobs, PauseResumeCancel) {
  create(tiny_job());
  Rig a = rig("alice"), b = rig("bob");
  const protocol::Lease lease = a.take();
  pause_job(*core, "tiny");
  EXPECT_EQ(b.ask().none->reason, "paused");
  EXPECT_EQ(a.work(lease).outcome, protocol::Outcome::accepted);  // what is out may come in
  EXPECT_THROW(pause_job(*core, "tiny"), Failure);
  resume_job(*core, "tiny", 0);
  EXPECT_THROW(resume_job(*core, "tiny", 0), Failure);
  const protocol::Lease other = b.take();
  cancel_job(*core, "tiny");
  EXPECT_EQ(status().state, "cancelled");
  EXPECT_FALSE(pool->renew(b.identity, other.lease, {}).wanted);
  EXPECT_EQ(b.deliver([&] {
               Work work = b.compute(other);
               work.submission.result = {protocol::sha256(work.blob), work.blob.size()};
               return work;
             }())
                .outcome,
            protocol::Outcome::superseded);
  EXPECT_EQ(balance("account:alice"), static_cast<int64_t>(lease.unit.price));
  EXPECT_EQ(balance("job:tiny"), 0);
  EXPECT_THROW(cancel_job(*core, "tiny"), Failure);
  EXPECT_THROW(create(tiny_job()), Failure);  // names are not used again
  expect_books_balance();
}

TEST_F(Jobs, PausesAfterTheRoundsAskedFor) {
  create(tiny_job("undisturbed"));
  Rig a = rig("alice"), b = rig("bob");
  run({&a, &b}, "undisturbed");
  create(tiny_job());
  for (const uint64_t rounds : {1, 2}) {  // the loss of round 1 is known only because of the pause, that of 2 not twice
    pause_job(*core, "tiny", rounds);
    run({&a, &b});
    EXPECT_EQ(status().state, "paused");
    EXPECT_EQ(status().rounds_done, rounds);
    EXPECT_EQ(status().validation_loss.back().first, rounds);
    EXPECT_EQ(a.ask().none->reason, "paused");
    resume_job(*core, "tiny", 0);
  }
  run({&a, &b});
  EXPECT_EQ(status().state, "completed");
  EXPECT_EQ(weights_digests(), weights_digests("undisturbed"));
  expect_books_balance();
}

TEST_F(Jobs, NumbersThatCannotBeMeantChangeNothing) {
  create(tiny_job());
  const int64_t budget = balance("job:tiny");
  for (const uint64_t after : {tiny_job().description.rounds + 1, UINT64_MAX}) {
    EXPECT_THROW(pause_job(*core, "tiny", after), Failure);
  }
  EXPECT_EQ(status().detail, "");
  pause_job(*core, "tiny");
  EXPECT_THROW(resume_job(*core, "tiny", UINT64_MAX), Failure);
  EXPECT_EQ(status().state, "paused");
  EXPECT_EQ(balance("job:tiny"), budget);
}

TEST_F(Jobs, TheLongestUnitFitsIntoItsLease) {
  JobRequest request = tiny_job();
  request.description.steps = 7'000;
  create(request);
  Rig a = rig("alice");
  protocol::LeaseRequest train = a.request();
  train.kinds = {"train"};
  const protocol::LeaseAnswer answer = a.ask(train);
  ASSERT_TRUE(answer.lease);
  EXPECT_EQ(answer.lease->unit.inner->steps.size(), 7'000u);
  EXPECT_LE(protocol::to_json(answer).dump().size(), protocol::max_json_bytes);
}

TEST_F(Jobs, TwoJobsShareTheRigs) {
  create(tiny_job("first"));
  create(tiny_job("second"));
  Rig a = rig("alice"), b = rig("bob");
  const std::string one = a.take().unit.job, two = b.take().unit.job;
  EXPECT_NE(one, two);
}

TEST_F(Jobs, MistakesAreNamed) {
  const auto expect = [&](const char* part, const std::function<void(JobRequest&)>& change) {
    const std::string message = refusal(change);
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  expect("job name", [](auto& r) { r.description.job = "Upper"; });
  expect("no dataset", [](auto& r) { r.dataset = "none"; });
  expect("--rounds", [](auto& r) { r.description.rounds = 0; });
  expect("--steps must be at least 1 and at most 100000", [](auto& r) { r.description.steps = 1'000'000'000; });
  expect("--lanes must be at least 1 and at most 65536", [](auto& r) { r.description.lanes_per_unit = 1'000'000'000; });
  expect("--profile must be one of exact-fp32, exact-int8, exact-int8-head, not \"fast\"",
         [](auto& r) { r.description.profile = "fast"; });
  expect("--codec must be fp32, int4 or int8, not \"int2\"", [](auto& r) { r.description.codec = "int2"; });
  expect("--outer", [](auto& r) { r.description.outer.name = "sgd"; });
  expect("--steps 1", [](auto& r) { r.description.outer.name = "adamw"; });
  expect("n_positions of 16", [](auto& r) { r.description.context = 17; });
  expect("either --config", [](auto& r) { r.config.reset(); });
  expect("nowhere.json: cannot be opened", [&](auto& r) { r.config = folder.path / "nowhere.json"; });
  expect("10^15", [](auto& r) { r.description.price = 1'000'000'000'000'000'000; });
  expect("--budget must be at most 10^15", [](auto& r) { r.budget = UINT64_MAX; });
  expect("a lease of a train unit would be", [](auto& r) { r.description.steps = 20'000; });
  expect("a lease of a train unit would be", [](auto& r) { r.description.lanes_per_unit = 10'000; });
  const auto with_config = [&](const char* key, const nlohmann::json& value) {
    return [&, key, value](JobRequest& r) {
      nlohmann::json config = tiny_config();
      config[key] = value;
      std::ofstream(folder.path / "other.json") << config;
      r.config = folder.path / "other.json";
    };
  };
  expect("int8 profiles: n_inner = 133145 makes sums of 133145 products; supported: at most 133144", [&](JobRequest& r) {
    with_config("n_inner", 133145u)(r);
    r.description.profile = "exact-int8";
  });
  expect("vocab_size of 200 is too small", with_config("vocab_size", 200u));
  expect("n_head", with_config("n_head", 3u));
  expect("activation_function", with_config("activation_function", "relu"));
  expect("shard of 601 tokens", [&](JobRequest& r) {
    with_config("n_positions", 700u)(r);
    r.description.context = 650;
  });
  const auto with_text = [&](const std::string& text) {
    return [&, text](JobRequest& r) {
      std::ofstream(folder.path / "other.json") << text;
      r.config = folder.path / "other.json";
    };
  };
  expect("other.json: not valid JSON", with_text("{"));
  expect("the key \"n_layer\" appears twice", with_text(R"({"model_type": "gpt2", "n_layer": 1, "n_layer": 2})"));
  expect("nested too deeply", with_text(std::string(100'000, '[')));
  EXPECT_EQ(number("SELECT count(*) FROM jobs"), 0);
  EXPECT_EQ(number("SELECT count(*) FROM ledger_postings"), 0);
}

}  // namespace
}  // namespace pool::testing
