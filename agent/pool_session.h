// One configured pool as the run loop sees it: its connection, identity, and everything kept for it on the disk.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "backoff.h"
#include "cards.h"
#include "config.h"
#include "data_folder.h"
#include "health_log.h"
#include "heartbeat.h"
#include "log.h"
#include "outbox.h"
#include "pool_client.h"
#include "pool_identity.h"
#include "receipt_book.h"
#include "unit_runner.h"
#include "weights_cache.h"

namespace agent {

// What a session and the loop need of the world; replaced in tests.
struct Surroundings {
  Clock& clock;
  const Stop& stop;
  Log& log;
  std::function<std::unique_ptr<Transport>(const PoolConfig&)> make_transport;
  UnitRunner::MakeOps make_ops;  // the CPU's
  std::vector<RigCard> cards = {};
  kernels::MakeCardLinks make_links = kernels::make_nccl_links;
  HealthLog::OpenSensors open_sensors = {};  // empty: the log has no lines of sensors
  double seconds_between_health = 60;
};

inline Outbox outbox_of(const std::filesystem::path& data, const std::string& pool) {
  return Outbox(data / "outbox" / pool);
}

// What belongs to one pool in the data folder; made once its identity is known.
struct PoolFiles {
  PoolFiles(const std::filesystem::path& data, const std::string& name, StoreLimits limits)
      : blobs(data / "cache" / name, limits),
        weights(data / "cache" / name, blobs),
        outbox(outbox_of(data, name)),
        receipts(data / "receipts" / name) {}
  BlobStore blobs;
  WeightsCache weights;
  Outbox outbox;
  ReceiptBook receipts;
};

class PoolSession {
 public:
  PoolSession(const PoolConfig& pool, const Config& config, const RigKeys& keys, uint64_t jitter_seed,
              Surroundings& world);

  // Asks who the pool is, compares with the pinned identity, and enrols the rig's key; nothing when that is done.
  // Throws what PoolClient and pin_identity throw.
  void connect();
  void disconnect() { connected_ = false; }
  bool connected() const { return connected_; }
  bool ever_connected() const { return files_ != nullptr; }
  // Whether finished units wait for this pool, perhaps since an earlier process.
  bool has_waiting() const;

  // Valid after the first connect().
  const PoolIdentity& identity() const { return identity_; }
  PoolFiles& files() { return *files_; }
  uint64_t piece_bytes() const { return piece_bytes_; }

  PoolClient& client() { return client_; }
  // Of the heartbeat number i: each has a thread of its own, and so a connection.
  PoolClient& heartbeat_client(size_t i);
  const PoolConfig& config() const { return config_; }

  // For the loop: when to try again, how often it failed since the last success, and whether it is given up.
  double not_before = 0;
  int failures = 0;
  bool dropped = false;
  int64_t reported_clock_offset = 0;
  double last_settlements = -1e9;  // when they were asked for
  double last_visit = -1e9;        // while the loop worked for another pool
  Backoff backoff;
  void succeeded() {
    failures = 0;
    backoff.reset();
  }

 private:
  void enrol(const PoolIdentity& identity);

  const PoolConfig config_;
  const Config& agent_config_;
  const RigKeys& keys_;
  Surroundings& world_;
  const std::unique_ptr<Transport> transport_;
  PoolClient client_;
  struct Connection {
    Connection(std::unique_ptr<Transport> to, const protocol::PrivateKey& key, const Clock& clock)
        : transport(std::move(to)), client(*transport, key, clock) {}
    const std::unique_ptr<Transport> transport;
    PoolClient client;
  };
  std::vector<std::unique_ptr<Connection>> heartbeats_;
  PoolIdentity identity_;
  std::unique_ptr<PoolFiles> files_;
  uint64_t piece_bytes_ = 0;
  bool connected_ = false;
};

}  // namespace agent
