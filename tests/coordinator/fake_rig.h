// A pool in a temporary folder with a clock that stands still, and rigs that compute real units of a tiny model in this
// process, without a network.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "accounts.h"
#include "core.h"
#include "job_create.h"
#include "pool.h"

namespace pool::testing {

class ManualClock : public Clock {
 public:
  int64_t now() const override { return time; }
  std::atomic<int64_t> time = 1'700'000'000;  // the pool's own thread reads it, too
};

class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path path;
};

// A result as a rig would upload and submit it.
struct Work {
  std::vector<uint8_t> blob;
  protocol::Submission submission;
};

class Rig;

class PoolFixture : public ::testing::Test {
 protected:
  PoolFixture();

  // Two tiny datasets exist: "text" (vocabulary 256).
  JobRequest tiny_job(const std::string& name = "tiny") const;
  CreatedJob create(const JobRequest& request) { return create_job(*core, request, false); }
  // A rig of its own key; the account is made where it is new.
  Rig rig(const std::string& account);
  // As after a crash: everything in memory is lost.
  void reopen();
  // Calls advance() until it has nothing to do.
  void advance();
  // Rigs take turns until the job is over, or nobody gets work any more.
  void run(std::vector<Rig*> rigs, const std::string& job = "tiny", int max_turns = 10000);
  JobStatus status(const std::string& job = "tiny");
  std::vector<std::string> weights_digests(const std::string& job = "tiny");  // after every round
  void expect_books_balance();
  int64_t number(const char* sql) {
    return core->store.read([&](Db& db) { return integer(db, 0, sql); });
  }

  TemporaryFolder folder;
  ManualClock clock;
  std::unique_ptr<Core> core;  // for the owner's commands
  std::unique_ptr<Pool> pool;

 private:
  std::map<std::string, std::string> tokens_;  // of accounts
};

class Rig {
 public:
  Rig(std::unique_ptr<Pool>& pool, ManualClock& clock, std::string account, const std::string& token);

  protocol::LeaseRequest request() const;  // fits everything, a new request id
  protocol::LeaseAnswer ask() { return ask(request()); }
  protocol::LeaseAnswer ask(const protocol::LeaseRequest& request);
  // Throws unless there is a lease.
  protocol::Lease take();

  // Weights are remembered between units, as an agent's cache does. Throws where the source does not give the digest.
  Work compute(const protocol::Lease& lease);
  void upload(const Work& work);
  protocol::SignedDocument submit(const Work& work);
  protocol::Receipt deliver(const Work& work);
  protocol::Receipt work(const protocol::Lease& lease) { return deliver(compute(lease)); }
  // Computes well and then changes a byte of the result: valid in form, wrong in fact.
  Work lie(const protocol::Lease& lease, uint8_t flip = 0x11);

  RigIdentity identity;
  std::string instance = protocol::random_hex16();
  std::vector<protocol::HeldWeights> held;  // as the next request says

 private:
  const std::vector<float>& weights_of(const protocol::Unit& unit);
  Work train(const protocol::Unit& unit, const std::vector<float>& weights);
  Work evaluate(const protocol::Unit& unit, const std::vector<float>& weights);
  protocol::VerifiedRequest verified() const;

  std::unique_ptr<Pool>* pool_;
  ManualClock* clock_;
  std::map<std::pair<std::string, uint64_t>, std::vector<float>> cache_;  // by job and round
};

nlohmann::json tiny_config();
std::vector<uint8_t> read_file(const std::filesystem::path& file);
void write_file(const std::filesystem::path& file, std::span<const uint8_t> bytes);

}  // namespace pool::testing
