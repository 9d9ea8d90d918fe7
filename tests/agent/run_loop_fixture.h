// The loop against a pool in memory and a clock that moves by sleeping.
#pragma once

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <sstream>

#include "data_folder.h"
#include "exit.h"
#include "manual_clock.h"
#include "run_loop.h"
#include "temporary_folder.h"
#include "tiny_job.h"

namespace agent {

using protocol::Error;
using protocol::ErrorCode;

class RunLoopTest : public testing::Test {
 protected:
  RunLoopTest() {
    config.pools = {{"https://pool.test:8443", "ann", "token", "rig", "", "", true}};
    config.data = folder.path;
    config.disk_reserve_mb = 0;
    clock.on_sleep = [this] {
      if (clock.sleeps.size() >= sleeps_until_stop) stop.request();
    };
  }

  // Runs until the agent has slept so often; the failure that ended it, if any.
  std::optional<Failure> run(size_t sleeps = 3, uint64_t units = 0) {
    sleeps_until_stop = clock.sleeps.size() + sleeps;
    try {
      RunLoop(config, key, units, world).run();
      return std::nullopt;
    } catch (const Failure& failure) {
      return failure;
    }
  }

  std::string log() const { return log_text.str(); }
  size_t logged(const std::string& text) const {
    size_t count = 0;
    for (size_t at = log().find(text); at != std::string::npos; at = log().find(text, at + 1)) ++count;
    return count;
  }
  // The world of another process, which `another` stops.
  Surroundings restarted(const Stop& another) {
    return {clock, another, log_sink, world.make_transport, world.make_ops};
  }

  // kind: "outbox", "receipts" or "cache".
  std::filesystem::path folder_of_pool(const char* kind) const {
    return folder.path / kind / protocol::to_hex(pool.pool_id).substr(0, 16);
  }
  Outbox outbox() const { return Outbox(folder_of_pool("outbox")); }
  ReceiptBook receipts() const { return ReceiptBook(folder_of_pool("receipts")); }
  protocol::SignedDocument settlement(const protocol::PublicKey& rig, const protocol::Digest& receipt = {},
                                      uint64_t sequence = 4) const {
    protocol::Settlement settlement;
    settlement.pool_id = pool.pool_id;
    settlement.sequence = sequence;
    settlement.amount = 83;
    settlement.unit = "tiny.0.t0";
    settlement.account = "ann";
    settlement.attempt = 1;
    settlement.receipt = receipt;
    settlement.rig = rig;
    settlement.settled = true;
    settlement.time = pool.now;
    return protocol::sign_document(protocol::to_canonical(settlement), pool.key);
  }
  static TransportError unreachable() { return {TransportError::Kind::unreachable, "nobody there"}; }

  fakes::TemporaryFolder folder;
  fakes::FakePool pool;
  TinyJob job{pool};
  fakes::ManualClock clock;
  Stop stop;
  std::ostringstream log_text;
  Log log_sink{std::make_shared<spdlog::sinks::ostream_sink_mt>(log_text), false};
  RigKeys key{protocol::PrivateKey::generate(), std::nullopt};
  Config config;
  size_t sleeps_until_stop = 0;
  std::function<std::unique_ptr<Transport>(const PoolConfig&)> connect = [this](const PoolConfig&) {
    return pool.transport();
  };
  Surroundings world{clock, stop, log_sink, [this](const PoolConfig& p) { return connect(p); },
                     [] { return kernels::make_cpu_ops(1); }};
};

}  // namespace agent
