// What every part of the pool works with: the store, the clock, the pool's key, and the jobs' descriptions.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "errors.h"
#include "kernels/model_config.h"
#include "pool.h"
#include "protocol/documents.h"
#include "protocol/keys.h"
#include "store.h"

namespace pool {

// A job's description, which never changes, and what follows from it.
struct Job {
  protocol::JobDescription description;
  protocol::Digest digest{};
  kernels::ModelConfig model;
  std::vector<kernels::Parameter> parameters;
  double flops_per_token = 0;                      // of training; evaluation costs a third
  uint64_t train_memory = 0, evaluate_memory = 0;  // bytes that a rig needs

  const std::string& name() const { return description.job; }
  uint64_t lanes_per_round() const { return description.units_per_round * description.lanes_per_unit; }
};

Failure no_pool_in(const std::filesystem::path& folder);

class Core {
 public:
  // Opens the folder with its key. Where it has no pool one is made, or else no_pool_in() thrown.
  Core(const std::filesystem::path& folder, const Clock& clock, bool make = true);

  Store store;
  const Clock& clock;
  const protocol::PrivateKey key;
  const protocol::Digest pool_id;

  // The results, by key and digest, whose submissions are in work.
  std::mutex submissions_mutex;
  std::set<std::pair<protocol::PublicKey, protocol::Digest>> submissions;

  protocol::SignedDocument sign(std::string document) const {
    return protocol::sign_document(std::move(document), key);
  }
  // Throws protocol::Error(not_found).
  std::shared_ptr<const Job> job(Db& db, const std::string& name) const;

 private:
  mutable std::mutex jobs_mutex_;
  mutable std::map<std::string, std::shared_ptr<const Job>> jobs_;
};

}  // namespace pool
