#include "background.h"

#include <algorithm>

#include "logging.h"
#include "protocol/digest.h"

namespace pool {
namespace {

using spdlog::level::info;
using spdlog::level::warn;

// The value of the last pair with this round, null if there is none.
nlohmann::json loss_of(const std::vector<std::pair<uint64_t, float>>& losses, uint64_t round) {
  const auto found =
      std::find_if(losses.rbegin(), losses.rend(), [&](const auto& loss) { return loss.first == round; });
  return found == losses.rend() ? nlohmann::json() : nlohmann::json(found->second);
}

void log_job(const JobStatus* before, const JobStatus& now) {
  const std::string& name = now.description.job;
  if (before == nullptr || before->state != now.state) {
    nlohmann::ordered_json fields{{"job", name}, {"state", now.state}};
    if (!now.detail.empty()) fields["detail"] = now.detail;
    log_event(now.state == "diverged" || now.state == "unfunded" ? warn : info, "job", fields);
  }
  if (before == nullptr) return;
  for (uint64_t round = before->rounds_done; round < now.rounds_done; ++round) {
    const int64_t opened = std::max(before->created, before->last_round_closed);
    log_event(info, "round closed",
              {{"job", name},
               {"round", round},
               {"loss", loss_of(now.training_loss, round)},
               {"units", now.description.units_per_round},
               {"seconds", now.last_round_closed - opened}});
  }
  if (now.validation_loss.size() > before->validation_loss.size()) {
    const auto& [round, loss] = now.validation_loss.back();
    log_event(info, "evaluated", {{"job", name}, {"round", round}, {"validation_loss", loss}});
  }
  if (now.units_rejected > before->units_rejected) {
    log_event(warn, "units rejected", {{"job", name}, {"units", now.units_rejected - before->units_rejected}});
  }
}

void log_rig(const RigStatus* before, const RigStatus& now) {
  const nlohmann::ordered_json fields{
      {"rig", now.identity.rig_id}, {"account", now.identity.account}, {"key", protocol::to_hex(now.identity.key)}};
  if (before == nullptr) {
    auto joined = fields;
    joined["agent"] = now.agent;
    log_event(info, "rig joined", joined);
  }
  if (now.state != (before == nullptr ? "active" : before->state)) {
    auto changed = fields;
    changed["reason"] = now.reason;
    log_event(warn, "rig " + now.state, changed);
  }
}

// What an operator wants to read of the difference between two looks.
void log_changes(const PoolStatus& before, const PoolStatus& now) {
  for (const JobStatus& job : now.jobs) {
    const auto old = std::find_if(before.jobs.begin(), before.jobs.end(),
                                  [&](const JobStatus& j) { return j.description.job == job.description.job; });
    log_job(old == before.jobs.end() ? nullptr : &*old, job);
  }
  std::map<protocol::PublicKey, const RigStatus*> known;
  for (const RigStatus& rig : before.rigs) known[rig.identity.key] = &rig;
  for (const RigStatus& rig : now.rigs) {
    const auto old = known.find(rig.identity.key);
    log_rig(old == known.end() ? nullptr : old->second, rig);
  }
}

}  // namespace

Background::Background(Pool& pool, Clock& clock) : pool_(pool), clock_(clock) {
  snapshot_ = std::make_shared<const Snapshot>(Snapshot{pool_.status(), clock_.now(), ""});
  thread_ = std::thread([this] { loop(); });
}

Background::~Background() {
  stop(std::chrono::milliseconds(0));
  if (thread_.joinable()) thread_.join();
}

void Background::wake() {
  {
    const std::lock_guard lock(mutex_);
    awake_ = true;
  }
  wake_up_.notify_one();
}

std::shared_ptr<const Snapshot> Background::snapshot() const {
  const std::lock_guard lock(mutex_);
  return snapshot_;
}

void Background::count_traffic(uint64_t bytes_up, uint64_t bytes_down) {
  const std::lock_guard lock(mutex_);
  bytes_up_ += bytes_up, bytes_down_ += bytes_down;
}

void Background::count_refusal(const std::string& error_name) {
  const std::lock_guard lock(mutex_);
  ++refusals_[error_name];
}

bool Background::stop(std::chrono::milliseconds limit) {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_up_.notify_one();
  return end_.wait_for(limit) == std::future_status::ready;
}

void Background::loop() {
  const auto attempt = [this](auto&& step) {
    try {
      step();
    } catch (const std::exception& error) {
      note_failure(error.what());
    }
  };
  while (wait()) attempt([this] { work(); });
  attempt([this] { flush_counters(); });
  ended_.set_value();
}

// Until there may be something to do, at most a second. False: stop.
bool Background::wait() {
  std::unique_lock lock(mutex_);
  wake_up_.wait_for(lock, std::chrono::seconds(1), [this] { return awake_ || stopping_; });
  awake_ = false;
  return !stopping_;
}

void Background::work() {
  const auto stopping = [this] {
    const std::lock_guard lock(mutex_);
    return stopping_;
  };
  while (!stopping() && pool_.advance()) next_look_ = {};
  flush_counters();
  if (std::chrono::steady_clock::now() >= next_look_) look();
}

void Background::flush_counters() {
  uint64_t up = 0, down = 0;
  std::map<std::string, uint64_t> refusals;
  {
    const std::lock_guard lock(mutex_);
    std::swap(up, bytes_up_), std::swap(down, bytes_down_), refusals.swap(refusals_);
  }
  if (up != 0 || down != 0) pool_.count_traffic(up, down);
  for (const auto& [name, count] : refusals) pool_.count_refusal(name, count);
}

// The larger the pool, the longer a look takes, and the more rarely it is taken: a twentieth of the time. What the log
// says can be seen on the page: the snapshot comes first.
void Background::look() {
  const auto begin = std::chrono::steady_clock::now();
  const std::shared_ptr<const Snapshot> before = snapshot();
  auto now = std::make_shared<const Snapshot>(Snapshot{pool_.status(), clock_.now(), ""});
  {
    const std::lock_guard lock(mutex_);
    snapshot_ = now;
  }
  if (!before->failure.empty()) log_event(info, "the pool works again");
  log_changes(before->status, now->status);
  const auto end = std::chrono::steady_clock::now();
  next_look_ = end + 20 * (end - begin);
}

// Keeps the last snapshot, with the reason why there is no newer one. Logged once.
void Background::note_failure(const std::string& reason) {
  const std::shared_ptr<const Snapshot> before = snapshot();
  if (before->failure == reason) return;
  log_event(spdlog::level::err, "the pool's own work fails", {{"reason", reason}});
  auto now = std::make_shared<const Snapshot>(Snapshot{before->status, before->time, reason});
  const std::lock_guard lock(mutex_);
  snapshot_ = std::move(now);
}

}  // namespace pool
