#include "cutting_server.h"

#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <stdexcept>

#include "protocol/digest.h"

namespace fakes {
namespace {

void require(bool good, const char* what) {
  if (!good) throw std::runtime_error(what);
}

bool waited(int socket) {  // a second; false when the client has gone
  char byte;
  sleep(1);
  return recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0;
}

}  // namespace

CuttingServer::CuttingServer() : context_(SSL_CTX_new(TLS_server_method()), SSL_CTX_free) {
  EVP_PKEY* key = EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");  // whose signatures are all of a length
  X509* certificate = X509_new();
  X509_set_pubkey(certificate, key);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
  require(X509_sign(certificate, key, nullptr) > 0 && SSL_CTX_use_certificate(context_.get(), certificate) == 1 &&
              SSL_CTX_use_PrivateKey(context_.get(), key) == 1,
          "a certificate");
  SSL_CTX_set_num_tickets(context_.get(), 0);  // their length varies
  uint8_t* spki = nullptr;
  const int size = i2d_PUBKEY(key, &spki);
  pin_ = protocol::to_hex(protocol::sha256(std::span<const uint8_t>(spki, static_cast<size_t>(size))));
  OPENSSL_free(spki);
  X509_free(certificate);
  EVP_PKEY_free(key);

  sockaddr_in address{};
  socklen_t length = sizeof address;
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  require(bind(listener_, reinterpret_cast<sockaddr*>(&address), length) == 0 && listen(listener_, 10) == 0 &&
              getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) == 0,
          "a listening socket");
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { serve(); });
}

CuttingServer::~CuttingServer() {
  over_ = true;
  shutdown(listener_, SHUT_RDWR);  // wakes accept
  thread_.join();
  close(listener_);
}

void CuttingServer::serve() {
  while (!over_) {
    const int socket = accept(listener_, nullptr, nullptr);
    if (socket < 0) continue;
    connection(socket);
    close(socket);
  }
}

// Sends what TLS has to say. False: the limit is reached, or the client has gone.
bool CuttingServer::flush(int socket, BIO* out, const Behaviour& behaviour) {
  char bytes[4096];
  for (int count; (count = BIO_read(out, bytes, sizeof bytes)) > 0;) {
    for (int done = 0; done < count;) {
      size_t part = std::min(static_cast<size_t>(count - done), behaviour.limit > sent_ ? behaviour.limit - sent_ : 0);
      if (part == 0 && !behaviour.crawl) return false;
      if (part == 0) {
        if (over_ || !waited(socket)) return false;
        part = 1;
      }
      sent_ += part;  // before the client can have it
      if (send(socket, bytes + done, part, MSG_NOSIGNAL) != static_cast<ssize_t>(part)) return false;
      done += static_cast<int>(part);
    }
  }
  return true;
}

void CuttingServer::behave(Behaviour behaviour) {
  const std::lock_guard lock(mutex_);
  next_ = std::move(behaviour);
}

void CuttingServer::connection(int socket) {
  Behaviour behaviour;
  {
    const std::lock_guard lock(mutex_);
    behaviour = next_;
  }
  const std::unique_ptr<SSL, void (*)(SSL*)> ssl(SSL_new(context_.get()), SSL_free);
  BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl.get(), in, out);
  SSL_set_accept_state(ssl.get());
  sent_ = 0;
  const bool sips = behaviour.crawl && behaviour.limit == SIZE_MAX;
  std::string request;
  char bytes[4096];
  for (;;) {
    const int count = SSL_read(ssl.get(), bytes, sizeof bytes);
    if (count > 0) request.append(bytes, static_cast<size_t>(count));
    const bool answers = request.find("\r\n\r\n") != std::string::npos && !sips;
    if (answers) {
      request.clear();
      SSL_write(ssl.get(), behaviour.answer.data(), static_cast<int>(behaviour.answer.size()));
    }
    if (!flush(socket, out, behaviour) || (answers && behaviour.half_close)) break;
    if (count > 0) continue;
    const bool slow = sips && SSL_is_init_finished(ssl.get()) == 1;
    if (slow && (over_ || !waited(socket))) return;
    const ssize_t received = recv(socket, bytes, slow ? 1 : sizeof bytes, 0);
    if (received <= 0) return;
    BIO_write(in, bytes, static_cast<int>(received));
  }
  if (!behaviour.half_close) return;
  shutdown(socket, SHUT_WR);
  while (recv(socket, bytes, sizeof bytes, 0) > 0) continue;
}

}  // namespace fakes
