// Keeps a lease alive while its unit is fetched, computed and delivered: renews it from a thread of its own.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "pool_client.h"

namespace agent {

class Heartbeat {
 public:
  // client: used by no one else meanwhile. progress: called from the heartbeat's thread.
  Heartbeat(PoolClient& client, std::string lease, uint64_t renew_s, std::function<double()> progress);
  ~Heartbeat() { end(); }

  // False once the pool does not want the unit any more.
  bool wanted() const { return wanted_; }
  // The pool's refusal of this rig as a whole (revoked, cloned), if there was one.
  std::optional<PoolError> refusal() const;
  // Ends the renewals; idempotent.
  void end();

 private:
  void run();
  double renew(double renew_s);

  PoolClient& client_;
  const std::string lease_;
  const std::function<double()> progress_;
  std::atomic<bool> wanted_ = true;
  std::atomic<bool> ended_ = false;
  mutable std::mutex mutex_;
  std::condition_variable ends_;
  std::optional<PoolError> refusal_;
  const double first_renew_s_;
  std::thread thread_;
};

}  // namespace agent
