#include "heartbeat.h"

#include <algorithm>
#include <chrono>

namespace agent {

Heartbeat::Heartbeat(PoolClient& client, std::string lease, uint64_t renew_s, std::function<double()> progress)
    : client_(client),
      lease_(std::move(lease)),
      progress_(std::move(progress)),
      first_renew_s_(static_cast<double>(renew_s)) {
  thread_ = std::thread([this] { run(); });
}

void Heartbeat::end() {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
  }
  ends_.notify_all();
  if (thread_.joinable()) thread_.join();
  client_.set_cancelled({});
}

std::optional<PoolError> Heartbeat::refusal() const {
  std::lock_guard lock(mutex_);
  return refusal_;
}

// The client knows of the heartbeat only while it has a thread, which the system may refuse.
void Heartbeat::run() {
  client_.set_cancelled([this] { return ended_.load(); });
  double renew_s = first_renew_s_;
  while (wanted_) {
    {
      std::unique_lock lock(mutex_);
      const std::chrono::duration<double> pause(std::max(renew_s / 3, 0.2));
      if (ends_.wait_for(lock, pause, [this] { return ended_.load(); })) return;
    }
    renew_s = renew(renew_s);
  }
}

// A pool out of reach is no reason to stop: a result is taken after the lease has lapsed too.
double Heartbeat::renew(double renew_s) {
  using protocol::ErrorCode;
  try {
    const protocol::RenewalAnswer answer = client_.renew(lease_, progress_());
    if (!answer.wanted) wanted_ = false;
    return static_cast<double>(answer.renew_s);
  } catch (const PoolError& error) {
    const bool whole_rig = error.is(ErrorCode::duplicate_instance) || error.is(ErrorCode::key_revoked);
    if (whole_rig) {
      std::lock_guard lock(mutex_);
      refusal_.emplace(error);
    }
    if (whole_rig || error.is(ErrorCode::lease_unknown)) wanted_ = false;
  } catch (const TransportError&) {
  } catch (const protocol::Error&) {  // an answer that makes no sense
  }
  return renew_s;
}

}  // namespace agent
