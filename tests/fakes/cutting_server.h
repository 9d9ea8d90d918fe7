// A TLS server on loopback whose connections end, or crawl, after so many bytes of what they should send.
#pragma once

#include <openssl/ssl.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace fakes {

class CuttingServer {
 public:
  CuttingServer();  // with a key of its own
  ~CuttingServer();
  CuttingServer(const CuttingServer&) = delete;
  CuttingServer& operator=(const CuttingServer&) = delete;

  std::string url() const { return "https://127.0.0.1:" + std::to_string(port_); }
  std::string pin() const { return pin_; }  // SHA-256 of its SubjectPublicKeyInfo, hex

  // What a connection does.
  struct Behaviour {
    std::string answer;       // to each request; head and body
    size_t limit = SIZE_MAX;  // of the bytes that it sends, TLS and all. Then it closes, or
    bool half_close = false;  // only says that nothing follows, and goes on to take what comes, or
    bool crawl = false;       // sends a byte a second; without a limit: takes a byte a second, and never answers
  };
  void behave(Behaviour behaviour);  // of the connections from now on

  size_t sent() const { return sent_; }  // by the last connection

 private:
  void serve();
  void connection(int socket);
  bool flush(int socket, BIO* out, const Behaviour& behaviour);

  std::mutex mutex_;
  Behaviour next_;  // under mutex_
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context_;
  std::string pin_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::atomic<size_t> sent_ = 0;
  std::atomic<bool> over_ = false;
  std::thread thread_;
};

}  // namespace fakes
