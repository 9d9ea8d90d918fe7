// HTTP/1.1 over TLS (or plain, for the loopback status listener) on one event loop.
//
// Boost.Beast and Asio were chosen because Debian keeps them in order, they use the same OpenSSL as the rest (one TLS
// stack), Beast's parser is strict, and Asio's coroutines let one connection read from top to bottom. This server adds
// what Beast's parser lets through: folded and repeated framing headers, HTTP/1.0, chunked requests. A refused
// request's body is never read as the next request: the connection is closed.
//
// The loop reads, writes and waits; handlers (SQL, hashing, signatures) run on a small pool of worker threads.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "http_message.h"
#include "tls_context.h"

namespace pool {

// What became of one request, for counters. bytes_sent counts a response's body as far as it was sent.
struct HttpExchange {
  std::string_view route = "none";  // of HttpAdmission; "none" where the request got no further than its header
  int status = 0;
  std::string error_name;
  uint64_t bytes_received = 0, bytes_sent = 0;
  bool sent_file = false;
  double seconds = 0;
};

struct HttpAdmission {
  std::string_view route = "none";  // lives as long as the handler
  uint64_t max_body_bytes = 0;
  bool asks_for_work = false;           // refused when the queue is half full, so that finished work still gets in
  std::optional<HttpResponse> refusal;  // decided by the header alone
};

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // On the event loop: must be quick, without I/O. The body has not been read yet.
  virtual HttpAdmission admit(const HttpRequest& request) noexcept = 0;
  // On a worker thread, several at once.
  virtual HttpResponse handle(const HttpRequest& request) noexcept = 0;
  // On the event loop, after the response was sent or the connection lost.
  virtual void finished(const HttpExchange&) noexcept {}
};

struct HttpLimits {
  size_t max_connections = 4096;
  size_t max_connections_per_address = 512;      // a farm may sit behind one address
  size_t max_queue = 256;                        // requests waiting for or in a worker; beyond it 503
  size_t max_bytes_in_memory = size_t{1} << 30;  // bodies, and answers until they are sent, together; beyond it 503
  size_t max_header_bytes = 16 << 10;
  int handshake_seconds = 10, header_seconds = 10, idle_seconds = 75, write_seconds = 30;
  int body_bytes_per_second = 16 << 10;  // a body may take header_seconds + its length / this
};

class HttpServer {
 public:
  explicit HttpServer(size_t workers);
  ~HttpServer();

  // Binds HOST:PORT ("[::1]:8443" for IPv6, port 0 for any free one) and returns the port. Plain HTTP without tls.
  // The handler must live until run() returns. Throws Failure naming the address or file
  // and what is wrong with it: address_in_use, usage (not HOST:PORT), bad_input (certificate, key).
  uint16_t listen(const std::string& address, const HttpLimits& limits, const std::optional<TlsFiles>& tls,
                  HttpHandler& handler);

  // Serves until SIGTERM, SIGINT or stop(); SIGHUP reads the certificates again. Then no connection is accepted,
  // running requests may finish for up to 4 seconds, and it returns when no handler runs. Call once.
  void run();
  void stop();  // from any thread

  size_t connections() const;              // open now
  int64_t certificate_expiry() const;      // Unix seconds of the first one to expire; 0 without TLS
  bool certificate_reload_failed() const;  // the newest SIGHUP found a wrong one, and the old one stays in use

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pool
