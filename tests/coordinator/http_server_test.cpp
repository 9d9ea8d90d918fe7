// What the server holds and waits for at most, with bounds of a test's size: over plain HTTP, whose code is that of
// TLS.
#include "http_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <thread>

#include "peer_address.h"

namespace pool {
namespace {

constexpr size_t big = 64 << 20;  // more than any socket's buffers take
constexpr int patient = 600;      // seconds: what a test does not wait for

// /big answers with `big` bytes, /file with a file of that size, any other path with an empty object.
class BigAnswers : public HttpHandler {
 public:
  explicit BigAnswers(std::filesystem::path file) : file_(std::move(file)) {}

  HttpAdmission admit(const HttpRequest&) noexcept override {
    HttpAdmission admission;
    admission.max_body_bytes = 1 << 20;
    return admission;
  }
  HttpResponse handle(const HttpRequest& request) noexcept override {
    HttpResponse response;
    response.body = request.path == "/big" ? std::string(big, 'x') : "{}";
    if (request.path == "/file") response.file = file_;
    return response;
  }
  void finished(const HttpExchange& exchange) noexcept override {
    const std::lock_guard lock(mutex_);
    sent_ = exchange.bytes_sent;
  }
  uint64_t sent() const {  // of the newest answer
    const std::lock_guard lock(mutex_);
    return sent_;
  }

 private:
  const std::filesystem::path file_;
  mutable std::mutex mutex_;
  uint64_t sent_ = 0;
};

// A connection that takes no more from the network than it is asked for, but for a few kilobytes.
class Client {
 public:
  explicit Client(uint16_t port) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    const int small = 4096;
    setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    const timeval limit{.tv_sec = 60, .tv_usec = 0};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      throw std::runtime_error("connect");
  }
  ~Client() { close(socket_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  Client& send(const std::string& text) {
    EXPECT_EQ(::send(socket_, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
    return *this;
  }
  Client& get(const std::string& path) { return send("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n"); }
  Client& post(size_t bytes, const std::string& more = "") {
    return send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(bytes) + "\r\n" + more + "\r\n");
  }

  // The status of the next answer, whose body is taken, too; 0 where the connection was closed instead.
  int status() {
    std::string head;
    while (!head.ends_with("\r\n\r\n")) {
      char next = 0;
      if (take(&next, 1) != 1) return 0;
      head.push_back(next);
    }
    const size_t at = head.find("Content-Length: ");
    std::string body(at == std::string::npos ? 0 : std::stoul(head.substr(at + 16)), '\0');
    for (size_t taken = 0; taken < body.size();) {
      const ssize_t length = take(body.data() + taken, body.size() - taken);
      if (length <= 0) return 0;
      taken += static_cast<size_t>(length);
    }
    return std::stoi(head.substr(9, 3));
  }
  bool begins() {  // an answer
    char byte = 0;
    return take(&byte, 1) == 1;
  }
  void take_byte() {  // if there is one
    char byte = 0;
    recv(socket_, &byte, 1, MSG_DONTWAIT);
  }
  bool closed() {
    char byte = 0;
    const ssize_t length = take(&byte, 1);
    return length == 0 || (length < 0 && errno == ECONNRESET);
  }

 private:
  ssize_t take(char* to, size_t bytes) { return recv(socket_, to, bytes, 0); }

  const int socket_;
};

class HttpServerBounds : public ::testing::Test {
 protected:
  HttpServerBounds() {
    limits.handshake_seconds = limits.header_seconds = limits.idle_seconds = limits.write_seconds = patient;
    limits.body_bytes_per_second = 1 << 30;
    std::ofstream(file_).close();
    std::filesystem::resize_file(file_, big);
  }
  ~HttpServerBounds() override {
    server_.stop();
    if (thread_.joinable()) thread_.join();
    std::filesystem::remove(file_);
  }

  void serve() {
    port_ = server_.listen("127.0.0.1:0", limits, std::nullopt, answers);
    thread_ = std::thread([this] { server_.run(); });
  }
  std::unique_ptr<Client> connect() const { return std::make_unique<Client>(port_); }
  void expect_connections(size_t count, const std::function<void()>& meanwhile = {}) const {
    for (int i = 0; i < 6000 && server_.connections() != count; ++i) {
      if (meanwhile) meanwhile();
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_EQ(server_.connections(), count);
  }
  // The answer of that path, at a byte now and then.
  void expect_given_up(const std::string& path) {
    limits.write_seconds = 1;
    serve();
    const auto slow = connect();
    slow->get(path);
    EXPECT_TRUE(slow->begins());
    expect_connections(0, [&] { slow->take_byte(); });
    EXPECT_LT(answers.sent(), big);
  }

 private:
  const std::filesystem::path file_ =
      std::filesystem::temp_directory_path() / ("http_server_test." + std::to_string(getpid()));

 protected:
  HttpLimits limits;
  BigAnswers answers{file_};

 private:
  HttpServer server_{2};
  std::thread thread_;
  uint16_t port_ = 0;
};

TEST_F(HttpServerBounds, ConnectionsBeyondTheMostAreClosed) {
  limits.max_connections = 3;
  serve();
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(connect());
    EXPECT_EQ(clients.back()->get("/").status(), 200);
  }
  EXPECT_TRUE(connect()->closed());
  EXPECT_EQ(clients.front()->get("/").status(), 200);
  clients.pop_back();
  expect_connections(2);
  EXPECT_EQ(connect()->get("/").status(), 200);
}

TEST_F(HttpServerBounds, AnIdleConnectionIsClosed) {
  limits.idle_seconds = 1;
  serve();
  const auto idle = connect();
  EXPECT_EQ(idle->get("/").status(), 200);
  EXPECT_TRUE(idle->closed());
}

TEST_F(HttpServerBounds, AnAnswerThatIsTakenAByteAtATimeIsGivenUp) { expect_given_up("/big"); }
TEST_F(HttpServerBounds, AFileThatIsTakenAByteAtATimeIsGivenUp) { expect_given_up("/file"); }

TEST_F(HttpServerBounds, BodiesTogetherHaveABound) {
  limits.max_bytes_in_memory = 1000;
  serve();
  const auto first = connect(), second = connect();
  EXPECT_EQ(first->post(900, "Expect: 100-continue\r\n").status(), 100);
  EXPECT_EQ(second->post(200).status(), 503);
  EXPECT_EQ(first->send(std::string(900, 'x')).status(), 200);
  EXPECT_EQ(connect()->post(200).send(std::string(200, 'x')).status(), 200) << "what is answered makes room";
}

TEST_F(HttpServerBounds, AnswersThatWaitForTheirClientsCountToo) {
  limits.max_bytes_in_memory = big + 1000;
  serve();
  const auto slow = connect();
  slow->get("/big");
  EXPECT_TRUE(slow->begins());
  EXPECT_EQ(connect()->get("/big").status(), 503);
  EXPECT_EQ(connect()->get("/file").status(), 503);
  EXPECT_EQ(connect()->get("/").status(), 200);
}

TEST(PeerAddress, AnIPv6ClientCountsAsItsNetwork) {
  const auto of = [](const char* address) {
    return address_of({boost::asio::ip::make_address(address), uint16_t{4711}});
  };
  EXPECT_EQ(of("192.0.2.7"), "192.0.2.7");
  EXPECT_EQ(of("::ffff:192.0.2.7"), "192.0.2.7") << "as an IPv6 listener sees IPv4";
  EXPECT_EQ(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
  EXPECT_EQ(of("2001:db8:1:2:ffff::9"), "2001:db8:1:2::/64");
  EXPECT_EQ(of("2001:db8:1:3::9"), "2001:db8:1:3::/64");
}

}  // namespace
}  // namespace pool
