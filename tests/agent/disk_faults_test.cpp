// A rig whose disk fails at every call in turn. Nothing is lost, nothing partial is taken for whole, and it goes on.
#include "disk_faults.h"

#include <cstring>
#include <set>
#include <utility>

#include "earnings_command.h"
#include "run_loop_fixture.h"

namespace agent {
namespace {

namespace fs = std::filesystem;
using fakes::DiskFault;
using fakes::DiskFaults;

class DiskFaultsTest : public RunLoopTest {
 protected:
  // One agent lives through it all. Each unit begins with nothing cached; during the n-th, the n-th call fails. It ends
  // when a unit and a settlement have come through without meeting the fault.
  void endure(DiskFault fault) {
    fault_ = fault;
    job.close_round();
    unit_ = job.unit();  // from a checkpoint and an update
    clock.on_sleep = [&] {
      if (clock.now > begun_ + 3600) stop.request();
      if (faults_ && faults_->happened() && ++sleeps_ == 2) faults_->lift();  // so it goes wrong once more
    };
    pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
      pool.now = clock.unix_time();
      if (request.path == "/v1/leases") next();
      return {};
    };
    EXPECT_NO_THROW(RunLoop(config, key, 0, world).run());
    EXPECT_FALSE(faults_->happened()) << "it ended, or hangs, at " << where();
    faults_.reset();
    const EarningsBook book = read_earnings(folder.path);
    EXPECT_TRUE(book.problems.empty());
    ASSERT_EQ(book.lines.size(), 1u);
    EXPECT_EQ(book.lines.begin()->second.accepted, 83 * n_);
    EXPECT_EQ(receipts().settlements().size(), n_);
    RecordProperty("calls", static_cast<int>(n_ - 1));
  }

  // The agent asks for work.
  void next() {
    if (n_ > 0 && logged("accepted tiny") == 0) return lease();
    if (!std::exchange(rested_, true)) {  // until it fetches the settlement, and has given its memory back
      return pool.leases.push_back({std::nullopt, protocol::NoLease{"nothing_to_do", "", 70}});
    }
    rested_ = false;
    if (n_ > 0) expect_all_well();
    if (n_ > 0 && !faults_->happened()) return stop.request();
    faults_.reset();
    fs::remove_all(folder.path / "cache");
    begun_ = clock.now;
    sleeps_ = leases_ = 0;
    log_text.str("");
    faults_.emplace(folder.path, fault_, ++n_);
    lease();
    pool.settlements.push_back(settlement(key.current.public_key(), protocol::sha256("receipt"), n_));
  }

  void lease() {
    ++leases_;
    job.lease(unit_, ++attempt_);
  }

  std::string where() const { return "call " + std::to_string(n_) + ", " + faults_->where() + "\n" + log(); }

  // The unit was sent once, its receipt kept, and nothing is on the disk that is not what it seems.
  void expect_all_well() {
    const std::string reason = std::strerror(fault_ == DiskFault::full ? ENOSPC : EIO);
    EXPECT_TRUE(leases_ == 1 || logged(reason) > 0) << where();
    EXPECT_EQ(logged("damaged"), 0u) << where();
    std::set<uint64_t> attempts;
    for (const protocol::Submission& submission : pool.submissions) {
      attempts.insert(submission.attempt);
      EXPECT_EQ(submission.result.digest, pool.submissions[0].result.digest) << where();
    }
    EXPECT_EQ(attempts.size(), n_) << where();
    EXPECT_TRUE(outbox().names().empty() && outbox().bytes() == 0) << where();
    expect_whole_cache();
  }

  void expect_whole_cache() {
    for (const auto& entry : fs::recursive_directory_iterator(folder.path / "cache")) {
      const fs::path file = entry.path();
      if (!entry.is_regular_file() || file.extension() == ".part" || file.extension() == ".tmp") continue;
      const std::string digest = protocol::to_hex(protocol::sha256_of_file(file));
      EXPECT_EQ(digest,
                file.extension() == ".safetensors" ? protocol::to_hex(unit_.weights.digest) : file.filename().string())
          << file << " at " << where();
    }
  }

  // A start as `run` makes it, until the pool knows the key; the failure that ended it.
  std::optional<Failure> start(const fs::path& data) {
    Stop known;
    pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
      if (request.path == "/v1/rigs") known.request();
      return {};
    };
    Surroundings starting = restarted(known);
    config.data = data;
    try {
      const DataFolder locked(data);
      const RigKeys keys = load_or_make_keys(data);
      RunLoop(config, keys, 0, starting).run();
      EXPECT_TRUE(known.requested());
      return std::nullopt;
    } catch (const Failure& failure) {
      return failure;
    }
  }

  DiskFault fault_ = DiskFault::none;
  std::optional<DiskFaults> faults_;
  protocol::Unit unit_;
  uint64_t n_ = 0, attempt_ = 0;
  double begun_ = 1000;
  bool rested_ = false;
  size_t sleeps_ = 0, leases_ = 0;
};

TEST_F(DiskFaultsTest, FullFromEveryCallOn) { endure(DiskFault::full); }
TEST_F(DiskFaultsTest, BrokenFromEveryCallOn) { endure(DiskFault::broken); }
TEST_F(DiskFaultsTest, AnErrorAtEveryCall) { endure(DiskFault::error_once); }
TEST_F(DiskFaultsTest, EveryWriteIsShort) { endure(DiskFault::short_write); }

// It ends with the exit code for disks and says why; the next start finds nothing half made.
TEST_F(DiskFaultsTest, AStartWithAFaultAtEveryCall) {
  for (const DiskFault fault : {DiskFault::full, DiskFault::broken, DiskFault::error_once, DiskFault::short_write}) {
    const char* reason = std::strerror(fault == DiskFault::full ? ENOSPC : EIO);
    bool happened = true;
    for (uint64_t n = 1; happened; ++n) {
      const fs::path data = folder.path / (std::to_string(static_cast<int>(fault)) + "." + std::to_string(n));
      DiskFaults faults(data, fault, n);
      const std::optional<Failure> failure = start(data);
      happened = faults.happened();
      if (failure) {
        EXPECT_EQ(failure->code, Exit::disk) << faults.where() << ": " << failure->what();
        EXPECT_NE(std::string(failure->what()).find(reason), std::string::npos) << failure->what();
      }
      EXPECT_EQ(failure.has_value(), happened && fault != DiskFault::short_write) << faults.where();
      faults.lift();
      const std::optional<Failure> again = start(data);
      EXPECT_FALSE(again) << faults.where() << ": " << again->what();
    }
  }
}

}  // namespace
}  // namespace agent
