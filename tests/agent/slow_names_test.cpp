// A name server that does not answer: this stands before the library's call that asks one.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <netdb.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <future>
#include <thread>

#include "http_client.h"

namespace agent {
namespace {

std::promise<void> name_server;
std::atomic<bool> asked = false, answered = false;

int ask_in_vain() {
  asked = true;
  name_server.get_future().wait_for(std::chrono::seconds(20));
  answered = true;
  return EAI_AGAIN;
}

TEST(SlowNames, AStopDoesNotWaitForThem) {
  const Stop stop;
  {
    HttpClient client(parse_pool_url("https://slow.test:8443"), TlsTrust{}, stop);
    HttpRequest request;
    request.method = "GET";
    request.path = "/v1/pool";
    request.cancelled = [] { return asked.load(); };
    try {
      client.send(request);
      FAIL();
    } catch (const TransportError& error) {
      EXPECT_EQ(error.kind, TransportError::Kind::cancelled) << error.what();
    }
  }
  EXPECT_FALSE(answered);
  name_server.set_value();
  while (!answered) std::this_thread::yield();
}

}  // namespace
}  // namespace agent

extern "C" int getaddrinfo(const char* name, const char* service, const addrinfo* hints, addrinfo** found) {
  if (name != nullptr && std::strcmp(name, "slow.test") == 0) return agent::ask_in_vain();
  static const auto next = reinterpret_cast<decltype(&getaddrinfo)>(dlsym(RTLD_NEXT, "getaddrinfo"));
  return next(name, service, hints, found);
}
