// A pool whose disk fails at every call in turn: whoever asks is told so, nothing is half done, and the job ends as if
// nothing had been.
#include "disk_faults.h"

#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <cstring>
#include <sstream>

#include "api_fixture.h"
#include "errors.h"

namespace pool::testing {
namespace {

namespace fs = std::filesystem;
using fakes::DiskFault;
using fakes::DiskFaults;

class DiskFaultsTest : public ApiFixture {
 protected:
  DiskFaultsTest() {
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::ostream_sink_mt>(log_)));
    JobRequest job = tiny_job();
    job.description.rounds = 1;
    create(job);
    enrol("ann", create_account(*core, "ann"));
    close();
    fs::copy(data_, prepared_, fs::copy_options::recursive);
    open();
    computing_.emplace(rig("bob"));
    play();
    expected_ = books();
    expected_weights_ = weights_digests();
    computing_.reset();
  }

  void close() {
    api.reset();
    pool.reset();
    core.reset();
  }
  void open() {
    reopen();
    open_api();
  }
  void begin_anew() {
    close();
    fs::remove_all(data_);
    fs::copy(prepared_, data_, fs::copy_options::recursive);
    open();
    failures_ = 0;
    log_.str("");
  }

  // The job from its first lease to its end. What fails is tried again, and the disk is mended after the second time.
  void play() {
    receipts_ = 0;
    advance_job();
    for (int turn = 0; computing_ ? status().state == "running" : receipts_ < works_.size(); ++turn) {
      ASSERT_LT(turn, 50) << where();
      const protocol::LeaseAnswer answer = protocol::lease_answer_from_json(ask("POST", "/v1/leases", lease_request()));
      if (answer.lease) {
        ask("POST", "/v1/leases/" + answer.lease->lease + "/renewal", protocol::to_json(protocol::Renewal{0.5}));
        deliver(work_of(*answer.lease));
      }
      advance_job();
    }
  }

  // The work is the same each time; only its lease is another.
  Work work_of(const protocol::Lease& lease) {
    if (computing_) works_[lease.unit.name] = computing_->compute(lease);
    Work work = works_.at(lease.unit.name);
    work.submission.lease = lease.lease;
    work.submission.attempt = lease.attempt;
    return work;
  }

  nlohmann::json ask(const std::string& method, const std::string& path, const nlohmann::json& body) {
    return repeat([&] { return call(method, path, body); }).body;
  }

  void deliver(const Work& work) {
    Answer answer;
    do {
      repeat([&] { return upload(work); });
      answer = repeat([&] { return submit(work); }, 1403);  // what a fault took is uploaded again
    } while (answer.code != 0);
    ++receipts_;
  }

  template <class Call>
  Answer repeat(Call&& call, int may_be = 0) {
    for (;;) {
      Answer answer = call();
      if (answer.status == 200 || answer.code == may_be) return answer;
      EXPECT_EQ(answer.code, 1900) << where() << ": " << answer.body;
      went_wrong(log_.str());
    }
  }

  void advance_job() {
    for (bool again = true; again;) {
      try {
        again = pool->advance();
      } catch (const std::runtime_error& failure) {  // as pool.h says
        went_wrong(failure.what());
      }
    }
  }

  void went_wrong(const std::string& said) {
    EXPECT_NE(said.find(data_.string()), std::string::npos) << "at " << where() << " it says: " << said;
    if (++failures_ == 2) faults_->lift();
    if (failures_ == 10) throw std::logic_error("it does not end after " + where() + ": " + said);
  }

  std::string where() const { return faults_ ? std::to_string(n_) + ". " + faults_->where() : "no fault"; }

  // What the books and the job's tables hold.
  std::string books() {
    std::string text;
    for (const char* table : {"units", "results", "rounds", "settlements", "ledger_transactions", "ledger_postings",
                              "weights", "updates", "blobs", "checks"}) {
      text += std::string(table) + " " +
              std::to_string(number(("SELECT count(*) FROM " + std::string(table)).c_str())) + "\n";
    }
    for (const char* account : {"job:tiny", "escrow:ann", "account:ann"}) {
      text += std::string(account) + " " +
              std::to_string(number(
                  ("SELECT amount FROM ledger_balances WHERE account = '" + std::string(account) + "'").c_str())) +
              "\n";
    }
    return text;
  }

  void endure(DiskFault fault) {
    bool happened = true;
    for (n_ = 1; happened; ++n_) {
      begin_anew();
      faults_.emplace(data_, fault, n_);
      play();
      faults_->lift();
      happened = faults_->happened();
      EXPECT_EQ(books(), expected_) << where();
      EXPECT_EQ(weights_digests(), expected_weights_) << where();
      EXPECT_EQ(status().state, "completed") << where();
      expect_books_balance();
      close();
      faults_.reset();
      open();
      for (const std::string& repair : pool->check_store().repairs) {
        EXPECT_NE(repair.find("unfinished files"), std::string::npos) << repair;
      }
      if (HasFailure()) break;
    }
    std::printf("%llu calls met the fault in turn\n", static_cast<unsigned long long>(n_ - 2));
  }

  std::ostringstream log_;
  const fs::path data_ = folder.path / "data", prepared_ = folder.path / "prepared";
  std::optional<Rig> computing_;
  std::map<std::string, Work> works_;
  std::optional<DiskFaults> faults_;
  std::string expected_;
  std::vector<std::string> expected_weights_;
  uint64_t n_ = 0;
  size_t receipts_ = 0;
  int failures_ = 0;
};

TEST_F(DiskFaultsTest, FullFromEveryCallOn) { endure(DiskFault::full); }
TEST_F(DiskFaultsTest, BrokenFromEveryCallOn) { endure(DiskFault::broken); }
TEST_F(DiskFaultsTest, AnErrorAtEveryCall) { endure(DiskFault::error_once); }
TEST_F(DiskFaultsTest, EveryWriteIsShort) { endure(DiskFault::short_write); }

}  // namespace
}  // namespace pool::testing
