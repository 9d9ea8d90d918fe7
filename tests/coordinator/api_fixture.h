// A pool whose rig speaks to it through the API: signed requests and their answers, without the network.
#pragma once

#include <memory>
#include <string>

#include "api.h"
#include "fake_rig.h"

namespace pool::testing {

struct Answer {
  int status = 0, code = 0;  // code: of the error, docs/protocol.md section 2.1; 0: none
  nlohmann::json body;
};

class ApiFixture : public PoolFixture {
 protected:
  ApiFixture() { open_api(); }

  // After each reopen(). The pool's own work is the test's to call: the API wakes the thread of another, idle pool.
  void open_api() { api = std::make_unique<Api>(*pool, clock, background_, metrics_, ApiLimits{1e6, 1e6}); }
  Answer call(const std::string& method, const std::string& path, const std::string& body) {
    return send(signed_request(method, path, body));
  }
  Answer call(const std::string& method, const std::string& path, const nlohmann::json& body) {
    return call(method, path, body.dump());
  }
  // Signed by the rig's clock, which may be another than the pool's.
  HttpRequest signed_request(const std::string& method, const std::string& path, const std::string& body) {
    const auto bytes = std::span(reinterpret_cast<const uint8_t*>(body.data()), body.size());
    const protocol::SignatureHeaders headers =
        protocol::sign_request({method, "pool.test", path, bytes}, key, pool->pool_id(), clock.time + rig_ahead);
    HttpRequest request;
    request.peer = "192.0.2.1";
    request.method = method;
    request.path = path;
    request.headers = {{"host", "pool.test"},
                       {"content-digest", headers.content_digest},
                       {"signature-input", headers.signature_input},
                       {"signature", headers.signature}};
    request.body = body;
    return request;
  }
  Answer send(const HttpRequest& request) {
    const HttpResponse response = api->handle(request);
    Answer answer{response.status, 0, nlohmann::json::parse(response.body)};
    if (answer.status != 200) answer.code = answer.body.at("error").at("code").get<int>();
    return answer;
  }
  Answer enrol(const std::string& account, const std::string& token) {
    return call("POST", "/v1/rigs",
                protocol::to_json(protocol::Enrolment{account, token, "rig", "gradminer/0.1.0", std::nullopt}));
  }
  nlohmann::json lease_request() const {
    protocol::LeaseRequest request;
    request.request_id = protocol::random_hex16();
    request.instance = instance;
    request.agent = "gradminer/0.1.0";
    request.profiles = {"exact-fp32/1"};
    request.codecs = {"fp32", "int4"};
    request.kinds = {"train", "evaluate"};
    request.memory_bytes = 1 << 30;
    request.flops = 1e9;
    return protocol::to_json(request);
  }
  Answer upload(const Work& work) {
    return call("PUT", "/v1/blobs/" + protocol::to_hex(work.submission.result.digest) + "/0",
                std::string(work.blob.begin(), work.blob.end()));
  }
  Answer submit(const Work& work) { return call("POST", "/v1/submissions", protocol::to_json(work.submission)); }

  const protocol::PrivateKey key = protocol::PrivateKey::generate();
  const std::string instance = protocol::random_hex16();
  int64_t rig_ahead = 0;  // seconds
  std::unique_ptr<Api> api;

 private:
  Pool idle_{folder.path / "idle", clock};
  Background background_{idle_, clock};
  Metrics metrics_;
};

}  // namespace pool::testing
