// Prometheus metrics of docs/operating.md: counted by this process (requests), or read from the store's newest
// snapshot.
#pragma once

#include <memory>
#include <string>

#include "background.h"
#include "http_server.h"

namespace pool {

// Thread-safe.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  void count(const HttpExchange& exchange);
  // Exposition format 0.0.4.
  std::string text(const Snapshot& snapshot, const HttpServer& server) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pool
