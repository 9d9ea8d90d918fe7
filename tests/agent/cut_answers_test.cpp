// Answers that are cut at every byte, lost, half closed and slow: no half of one is taken for whole, nothing is done
// twice, and nothing waits for ever.
#include <map>
#include <set>

#include "cutting_server.h"
#include "http_client.h"
#include "run_loop_fixture.h"

namespace agent {
namespace {

class CutAnswers : public testing::Test {
 protected:
  static HttpRequest request() {
    HttpRequest request;
    request.method = "GET";
    request.path = "/v1/pool";
    return request;
  }
  HttpResponse get(std::string* streamed = nullptr) {
    HttpClient client(parse_pool_url(server.url()), TlsTrust{"", server.pin()}, stop, patience);
    HttpRequest asked = request();
    if (streamed != nullptr) {
      asked.on_body = [&](int, std::span<const uint8_t> bytes) { streamed->append(bytes.begin(), bytes.end()); };
    }
    return client.send(asked);
  }
  // Whether it came whole; nothing else counts as an answer.
  bool came(std::string* streamed = nullptr) {
    try {
      const HttpResponse response = get(streamed);
      EXPECT_EQ(response.status, 200);
      EXPECT_EQ(streamed == nullptr ? response.body : *streamed, body);
      return true;
    } catch (const TransportError& error) {
      EXPECT_EQ(error.kind, TransportError::Kind::unreachable) << error.what();  // not the certificate's fault
      EXPECT_NE(std::string(error.what()).find("127.0.0.1"), std::string::npos) << error.what();
      return false;
    }
  }

  const std::string body = "{\"the body\": \"" + std::string(200, 'x') + "\"}";
  const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  fakes::CuttingServer server;
  Stop stop;
  Patience patience;
};

TEST_F(CutAnswers, AConnectionCutAtEveryByte) {
  server.behave({.answer = answer});
  ASSERT_TRUE(came());
  const size_t whole = server.sent();
  ASSERT_GT(whole, answer.size());
  for (size_t limit = 0; limit < whole; ++limit) {
    server.behave({.answer = answer, .limit = limit, .half_close = limit % 2 == 1});
    std::string streamed;
    ASSERT_FALSE(came(limit % 4 < 2 ? nullptr : &streamed)) << limit << " of " << whole << " bytes";
    ASSERT_TRUE(body.starts_with(streamed));
  }
}

TEST_F(CutAnswers, AHalfClosedConnectionIsNotUsedAgain) {
  server.behave({.answer = answer, .half_close = true});
  HttpClient one(parse_pool_url(server.url()), TlsTrust{"", server.pin()}, stop);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(one.send(request()).body, body);
}

TEST_F(CutAnswers, APoolThatSendsAByteASecondIsGivenUp) {
  server.behave({.answer = answer});
  ASSERT_TRUE(came());
  patience.slow_seconds = 2;
  server.behave({.answer = answer, .limit = server.sent() - body.size(), .crawl = true});
  EXPECT_FALSE(came()) << "that would take minutes";
}

TEST_F(CutAnswers, APoolThatTakesAByteASecondIsGivenUp) {
  patience.slow_seconds = 2;
  server.behave({.answer = answer, .crawl = true});
  const std::vector<uint8_t> piece(64 << 20);  // beyond all buffers on the way
  HttpClient client(parse_pool_url(server.url()), TlsTrust{"", server.pin()}, stop, patience);
  HttpRequest put = request();
  put.method = "PUT";
  put.body = piece;
  EXPECT_THROW(client.send(put), TransportError);
}

// A connection to a FakePool; `edit` sees each answer, which may be lost: it throws.
class EditedAnswers : public Transport {
 public:
  using Edit = std::function<void(const HttpRequest&, HttpResponse&)>;
  EditedAnswers(std::unique_ptr<Transport> inner, Edit edit) : inner_(std::move(inner)), edit_(std::move(edit)) {}
  HttpResponse send(const HttpRequest& request) override {
    HttpResponse response = inner_->send(request);
    if (response.status == 200) edit_(request, response);
    return response;
  }
  const std::string& authority() const override { return inner_->authority(); }

 private:
  const std::unique_ptr<Transport> inner_;
  const Edit edit_;
};

class CutMessages : public RunLoopTest {
 protected:
  bool ever_connected_ = false;

  // The loop with edited answers, until it has one receipt and nothing to do.
  void expect_one_receipt(const EditedAnswers::Edit& edit) {
    connect = [&](const PoolConfig&) { return std::make_unique<EditedAnswers>(pool.transport(), edit); };
    pool.before = [&](const HttpRequest& request) -> std::optional<Error> {
      pool.now = clock.unix_time();
      if (request.path == "/v1/leases" && pool.leases.empty() && pool.submissions.empty()) job.lease(job.unit());
      return {};
    };
    clock.on_sleep = [&] {
      if (logged("accepted tiny.0.t0") > 0 || clock.sleeps.size() > 20'000) stop.request();
    };
    EXPECT_NO_THROW(RunLoop(config, key, 0, world).run());
    EXPECT_EQ(logged("accepted tiny.0.t0"), 1u);
    EXPECT_EQ(receipts().receipts().size(), 1u);
    EXPECT_TRUE(outbox().names().empty());
    ASSERT_FALSE(pool.submissions.empty());
    for (const protocol::Submission& again : pool.submissions) {
      EXPECT_EQ(protocol::to_json(again), protocol::to_json(pool.submissions[0])) << "the same, byte for byte";
    }
  }
};

TEST_F(CutMessages, LeaseAndReceiptCutAtEveryByte) {
  std::map<std::string, size_t> cut;  // by path
  expect_one_receipt([&](const HttpRequest& request, HttpResponse& response) {
    if (request.path != "/v1/leases" && request.path != "/v1/submissions") return;
    if (cut[request.path] < response.body.size()) response.body.resize(cut[request.path]++);
  });
  EXPECT_GT(cut["/v1/leases"], 1000u);
  EXPECT_GT(cut["/v1/submissions"], 500u);
}

TEST_F(CutMessages, TheAnswerToEachRequestIsLostOnce) {
  std::set<std::string> lost;
  expect_one_receipt([&](const HttpRequest& request, HttpResponse&) {
    if (ever_connected_ && lost.insert(request.method + request.path).second) throw unreachable();
    ever_connected_ = true;
  });
  EXPECT_GT(lost.size(), 6u);
}

TEST_F(CutMessages, ABlobCutAtEveryByte) {
  std::vector<uint8_t> bytes(2000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 7 + i / 256);
  const protocol::BlobReference blob = pool.publish_reference(bytes);
  const std::unique_ptr<Transport> transport = pool.transport();
  PoolClient client(*transport, key.current, clock);
  for (size_t at = 1; at < bytes.size(); ++at) {
    BlobStore store(folder.path / "cache", {.bytes = 1'000'000, .disk_reserve = 0});
    store.remove(blob);
    pool.cut_download_at = at;
    ASSERT_THROW(store.fetch(client, blob, [] { return false; }), TransportError);
    ASSERT_EQ(protocol::sha256_of_file(store.fetch(client, blob, [] { return false; })), blob.digest) << at;
    ASSERT_EQ(pool.download_offsets.back(), at) << "it goes on where it was cut";
  }
}

}  // namespace
}  // namespace agent
