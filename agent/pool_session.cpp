#include "pool_session.h"

namespace agent {

PoolSession::PoolSession(const PoolConfig& pool, const Config& config, const RigKeys& keys, uint64_t jitter_seed,
                         Surroundings& world)
    : backoff(config.retry_pause, jitter_seed),
      config_(pool),
      agent_config_(config),
      keys_(keys),
      world_(world),
      transport_(world.make_transport(pool)),
      client_(*transport_, keys.current, world.clock) {}

void PoolSession::connect() {
  if (connected_) return;
  const protocol::PoolInfo info = client_.info();
  const PoolIdentity identity = identity_of(config_.url, info);
  pin_identity(agent_config_.data, identity);
  client_.set_pool_id(identity.pool_id);
  enrol(identity);
  identity_ = identity;
  piece_bytes_ = info.max_piece_bytes;
  if (!files_) {
    files_ = std::make_unique<PoolFiles>(
        agent_config_.data, identity.folder_name(),
        StoreLimits{agent_config_.cache_limit_mb * megabyte, agent_config_.disk_reserve_mb * megabyte});
  }
  connected_ = true;
  world_.log.write(
      Level::good, "connected",
      "connected to " + config_.url + " (" + printable(info.software) + ") as " + config_.user + "/" + config_.rig_id,
      {{"pool", config_.url}, {"pool_id", protocol::to_hex(identity.pool_id)}});
}

bool PoolSession::has_waiting() const {
  if (files_) return !files_->outbox.names().empty();
  const std::optional<PoolIdentity> known = pinned_identity(agent_config_.data, config_.url);
  return known && !outbox_of(agent_config_.data, known->folder_name()).names().empty();
}

PoolClient& PoolSession::heartbeat_client(size_t i) {
  while (heartbeats_.size() <= i) {
    heartbeats_.push_back(std::make_unique<Connection>(world_.make_transport(config_), keys_.current, world_.clock));
    heartbeats_.back()->client.set_pool_id(identity_.pool_id);  // which is pinned: it stays
  }
  return heartbeats_[i]->client;
}

void PoolSession::enrol(const PoolIdentity& identity) {
  protocol::Enrolment enrolment{config_.user, config_.pass, config_.rig_id, "gradminer/" GRADMINER_VERSION,
                                std::nullopt};
  if (keys_.previous) {
    const std::string message = protocol::rotation_message(identity.pool_id, keys_.current.public_key());
    enrolment.previous = {keys_.previous->public_key(), keys_.previous->sign(message)};
  }
  try {
    client_.enrol(enrolment);
  } catch (const PoolError& error) {  // a pool that never knew the old key
    if (!enrolment.previous || !error.is(protocol::ErrorCode::unknown_key)) throw;
    enrolment.previous.reset();
    client_.enrol(enrolment);
  }
}

}  // namespace agent
