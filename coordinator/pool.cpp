#include "pool.h"

#include <atomic>
#include <chrono>

#include "accounts.h"
#include "checks.h"
#include "core.h"
#include "leases.h"
#include "retention.h"
#include "rounds.h"
#include "settlements.h"
#include "status.h"
#include "store_check.h"
#include "store_repair.h"
#include "submissions.h"
#include "uploads.h"

namespace pool {
namespace {

constexpr int64_t tidy_every_s = 60;

class SystemClock : public Clock {
 public:
  int64_t now() const override {
    return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
  }
};

protocol::Error not_found(const std::string& what) { return {protocol::ErrorCode::not_found, "there is no " + what}; }

}  // namespace

Clock& system_clock() {
  static SystemClock clock;
  return clock;
}

struct Pool::Impl {
  Impl(const std::filesystem::path& folder, Clock& clock) : core(folder, clock) {}

  bool advance_job(const std::string& name);

  mutable Core core;  // reads lend connections out
  std::atomic<int64_t> tidied = 0;
};

// One job's way: a finished round is published, the next one opened; after the last, evaluations and checks end it.
bool Pool::Impl::advance_job(const std::string& name) {
  if (close_round(core, name)) return true;
  return core.store.write([&](Db& db) {
    const std::shared_ptr<const Job> job = core.job(db, name);
    if (open_next_round(core, db, *job)) return true;
    const bool finished =
        integer(db, 0, "SELECT rounds_done >= ? FROM jobs WHERE name = ?", rounds_wanted(db, *job), name) != 0;
    if (finished) give_up_work(core, db, name);  // a bar may have opened an evaluation again
    if (expire_checks(core, db, name, finished)) return true;
    return complete_if_done(core, db, *job);
  });
}

Pool::Pool(const std::filesystem::path& folder, Clock& clock) : impl_(std::make_unique<Impl>(folder, clock)) {}
Pool::~Pool() = default;

StoreCheck Pool::check_store() { return pool::check_store(impl_->core); }

protocol::Digest Pool::pool_id() const { return impl_->core.pool_id; }

protocol::PoolInfo Pool::info() const {
  protocol::PoolInfo info;
  info.pool_id = impl_->core.pool_id;
  info.public_keys.push_back({impl_->core.key.public_key(), std::nullopt});
  info.software = "gradpool/" GRADMINER_VERSION;
  info.minimum_agent = minimum_agent;
  info.time = impl_->core.clock.now();
  return info;
}

void Pool::enrol(const protocol::VerifiedRequest& request, const protocol::Enrolment& enrolment) {
  pool::enrol(impl_->core, request, enrolment);
}
RigIdentity Pool::admit(const protocol::VerifiedRequest& request) { return pool::admit(impl_->core, request); }

protocol::LeaseAnswer Pool::lease(const RigIdentity& rig, const protocol::LeaseRequest& request) {
  return pool::lease(impl_->core, rig, request);
}
protocol::RenewalAnswer Pool::renew(const RigIdentity& rig, const std::string& lease, const protocol::Renewal&) {
  return pool::renew(impl_->core, rig, lease);
}
void Pool::release(const RigIdentity& rig, const std::string& lease, const protocol::Release&) {
  pool::release(impl_->core, rig, lease);
}

uint64_t Pool::put_piece(const RigIdentity& rig, const protocol::Digest& digest, uint64_t offset,
                         std::span<const uint8_t> piece) {
  return pool::put_piece(impl_->core, rig, digest, offset, piece);
}
uint64_t Pool::held_bytes(const RigIdentity& rig, const protocol::Digest& digest) const {
  return pool::held_bytes(impl_->core, rig.key, digest);
}
protocol::SignedDocument Pool::submit(const RigIdentity& rig, const protocol::Submission& submission,
                                      const protocol::VerifiedRequest& evidence, std::string_view body) {
  return pool::submit(impl_->core, rig, submission, evidence, body);
}

std::vector<protocol::SignedDocument> Pool::settlements(const protocol::PublicKey& rig, uint64_t after) const {
  return settlements_after(impl_->core, rig, after);
}

protocol::SignedDocument Pool::job(const std::string& job) const {
  return impl_->core.store.read([&](Db& db) {
    Statement row = query(db, "SELECT document, signature FROM jobs WHERE name = ?", job);
    if (!row.executeStep()) throw not_found("job " + job);
    return protocol::SignedDocument{text_at(row, 0), bytes_at<64>(row, 1)};
  });
}

protocol::SignedDocument Pool::record(const std::string& job, uint64_t round) const {
  return impl_->core.store.read([&](Db& db) {
    Statement row = query(
        db, "SELECT document, signature FROM rounds WHERE job = ? AND round = ? AND closed IS NOT NULL", job, round);
    if (!row.executeStep()) throw not_found("closed round " + std::to_string(round) + " of job " + job);
    return protocol::SignedDocument{text_at(row, 0), bytes_at<64>(row, 1)};
  });
}

std::optional<std::filesystem::path> Pool::published_blob(const protocol::Digest& digest) const {
  const bool published = impl_->core.store.read(
      [&](Db& db) { return integer(db, 0, "SELECT count(*) FROM published_blobs WHERE digest = ?", digest) > 0; });
  if (!published) return std::nullopt;
  return impl_->core.store.blob_path(digest);
}

bool Pool::advance() {
  Core& core = impl_->core;
  if (const int64_t now = core.clock.now(); now >= impl_->tidied + tidy_every_s) {
    impl_->tidied = now;
    tidy(core);
  }
  const std::vector<std::string> jobs = core.store.read([](Db& db) {
    Statement rows(
        db, "SELECT name FROM jobs WHERE state IN ('running', 'paused', 'unfunded') ORDER BY last_round_closed, name");
    std::vector<std::string> names;
    while (rows.executeStep()) names.push_back(text_at(rows, 0));
    return names;
  });
  std::exception_ptr failure;  // of one job must not hold up the others
  for (const std::string& job : jobs) {
    try {
      if (impl_->advance_job(job)) return true;
    } catch (...) {
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
  return false;
}

PoolStatus Pool::status() const { return pool_status(impl_->core); }

void Pool::count_traffic(uint64_t bytes_up, uint64_t bytes_down) {
  impl_->core.store.write([&](Db& db) {
    execute(db, "UPDATE pool SET bytes_up = bytes_up + ?, bytes_down = bytes_down + ?", bytes_up, bytes_down);
  });
}
void Pool::count_refusal(const std::string& error_name, uint64_t count) {
  impl_->core.store.write([&](Db& db) {
    execute(db, "INSERT INTO refusals VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET count = count + excluded.count",
            error_name, count);
  });
}

}  // namespace pool
