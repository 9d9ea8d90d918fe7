// A disk that fails at every call in turn of a first start, a start, a backup, a restore and a migration: each says so,
// leaves nothing that passes for whole, and succeeds when it is repeated.
#include <functional>
#include <regex>

#include "backup.h"
#include "disk_faults.h"
#include "fake_rig.h"
#include "migrations.h"
#include "store_1.h"

namespace pool::testing {
namespace {

namespace fs = std::filesystem;
using fakes::DiskFault;
using fakes::DiskFaults;

class DiskFaultsOfCopies : public PoolFixture {
 protected:
  // Calls action() with its n-th call failing, for each n until no call fails. After each failure of another kind (the
  // 256 folders of blobs are one), again(done) with a disk that works; done: it came through in spite of the fault.
  // prepare() comes before each action.
  template <class Action, class Again>
  void endure(const Action& action, const Again& again, const std::function<void()>& prepare = {}) {
    for (const DiskFault fault : {DiskFault::full, DiskFault::error_once}) {
      std::string kind, before;
      for (uint64_t n = 1; !HasFailure() && (n == 1 || !kind.empty()); ++n) {
        SCOPED_TRACE("call " + std::to_string(n) + ", " + kind);
        if (prepare) prepare();
        DiskFaults faults(folder.path, fault, n);
        std::optional<std::string> said;
        try {
          action();
        } catch (const std::runtime_error& failure) {  // as pool.h says
          said = failure.what();
        }
        faults.lift();
        kind = std::regex_replace(faults.where(), std::regex("blobs/[0-9a-f]{2}$"), "blobs/*");
        if (said) {
          EXPECT_NE(said->find(folder.path.string()), std::string::npos) << kind << ": " << *said;
        }
        if (kind != std::exchange(before, kind)) again(!said);
        fs::remove_all(copy_);
      }
    }
  }

  void close() {
    pool.reset();
    core.reset();
  }
  void expect_whole(const fs::path& data) {
    Pool opened(data, clock);
    const StoreCheck found = opened.check_store();
    EXPECT_TRUE(found.repairs.empty() && found.warnings.empty());
    EXPECT_EQ(opened.pool_id(), pool_id_);
    ASSERT_EQ(opened.status().jobs.size(), 1u);
    EXPECT_EQ(opened.status().jobs[0].weights_digest, weights_);
  }
  // What an interrupted copy left is refused as a backup and holds no jobs as a pool; or only its last sync failed.
  void expect_no_pool() {
    try {
      restore(copy_, folder.path / "restored");
      expect_whole(folder.path / "restored");
    } catch (const std::runtime_error&) {
      try {
        EXPECT_TRUE(Pool(copy_, clock).status().jobs.empty());
      } catch (const std::runtime_error&) {
      }
    }
    fs::remove_all(folder.path / "restored");
  }
  // One round is closed, and of the next one unit is accepted.
  void make_job() {
    create(tiny_job());
    Rig ann = rig("ann");
    while (number("SELECT count(*) FROM units WHERE round = 1 AND kind = 'train' AND accepted IS NOT NULL") == 0) {
      advance();
      ann.work(ann.take());
    }
    weights_ = status().weights_digest;
    pool_id_ = pool->pool_id();
  }

  const fs::path data_ = folder.path / "data", copy_ = folder.path / "copy";
  std::string weights_;
  protocol::Digest pool_id_{};
};

TEST_F(DiskFaultsOfCopies, FirstStart) {
  close();
  endure([&] { Pool(copy_, clock).check_store(); }, [&](bool) { Pool(copy_, clock).check_store(); });
}

TEST_F(DiskFaultsOfCopies, Start) {
  make_job();
  close();
  endure([&] { Pool(data_, clock).check_store(); }, [&](bool) { expect_whole(data_); });
}

TEST_F(DiskFaultsOfCopies, Backup) {
  make_job();
  endure([&] { back_up(*core, copy_); },
         [&](bool done) {
           if (!done) {
             expect_no_pool();
             fs::remove_all(copy_);
             back_up(*core, copy_);
           }
           expect_whole(copy_);
         });
}

TEST_F(DiskFaultsOfCopies, Restore) {
  make_job();
  const fs::path backup = folder.path / "backup";
  back_up(*core, backup);
  close();
  endure([&] { restore(backup, copy_); },
         [&](bool done) {
           if (!done) {
             expect_no_pool();
             fs::remove_all(copy_);
             restore(backup, copy_);
           }
           expect_whole(copy_);
         });
}

TEST_F(DiskFaultsOfCopies, Migration) {
  const fs::path kept = copy_ / "gradpool.db.schema-1";
  endure([&] { migrate_folder(copy_); },
         [&](bool done) {
           if (!done) migrate_folder(copy_);
           EXPECT_EQ(integer(*std::make_unique<Db>(kept.string()), 0, "SELECT count(*) FROM results"), 3);
           Pool opened(copy_, clock);
           EXPECT_TRUE(opened.check_store().repairs.empty());
           EXPECT_EQ(opened.status().jobs.at(0).rounds_done, 1u);
         },
         [&] { make_store_1(copy_); });
}

}  // namespace
}  // namespace pool::testing
