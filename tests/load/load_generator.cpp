// Many agents against one pool, from one thread: each has a TLS connection and an Ed25519 key of its own, enrols, asks
// for a lease at its own times, and uploads and submits results at a rate that all of them keep together.
//
// The load is open: an agent's next request is due whether the pool is slow or not, and its time counts from when it
// was due. Due times that pass while the agent's request is still running are counted as missed and not made up for.
//
// Reads stages from stdin, "LEASES_PER_SECOND SUBMISSIONS_PER_SECOND SECONDS" a line, and prints one line of JSON when
// the agents are connected and one for each stage.
#include <CLI/CLI.hpp>
#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <cstring>
#include <deque>
#include <iostream>
#include <map>
#include <memory>
#include <random>

#include "protocol/blob.h"
#include "protocol/http_signature.h"
#include "protocol/json.h"
#include "protocol/messages.h"

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::use_awaitable;
using asio::ip::tcp;
using nlohmann::json;
using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;
using Stream = beast::ssl_stream<beast::tcp_stream>;

constexpr auto no_throw = asio::as_tuple(use_awaitable);
constexpr size_t agents_per_address = 100;  // each farm comes from an address of its own, 127.0.1.1 and up
constexpr size_t connecting_at_once = 16;
constexpr double flops = 1e6;  // such that a unit is not held to be overdue within a stage

Clock::duration in_seconds(double value) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(value));
}

// ---- what is counted ----

struct Stage {
  double leases_per_second = 0, submissions_per_second = 0, seconds = 0;
  Time begin, end;
  std::vector<double> lease_seconds, submission_seconds;  // of those that succeeded
  std::map<std::string, uint64_t> refused;                // by error name, or "connection"
  uint64_t missed = 0, without_retry_after = 0, units = 0;
  size_t submissions_begun = 0;

  bool over() const { return Clock::now() >= end; }
};

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  const auto at = values.begin() + static_cast<ptrdiff_t>(q * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

json report(const Stage& stage) {
  const auto times = [&](const std::vector<double>& values) {
    return json{{"count", values.size()},
                {"per_second", static_cast<double>(values.size()) / stage.seconds},
                {"p50_ms", 1e3 * quantile(values, 0.5)},
                {"p99_ms", 1e3 * quantile(values, 0.99)},
                {"max_ms", 1e3 * quantile(values, 1)}};
  };
  return {{"leases_offered", stage.leases_per_second},
          {"submissions_offered", stage.submissions_per_second},
          {"seconds", stage.seconds},
          {"leases", times(stage.lease_seconds)},
          {"submissions", times(stage.submission_seconds)},
          {"units", stage.units},
          {"missed", stage.missed},
          {"refused", stage.refused},
          {"without_retry_after", stage.without_retry_after}};
}

// ---- one agent ----

struct Answer {
  int status = 0;  // 0: the connection was lost
  json body;
  bool retry_after = false;
};

struct Options {
  std::string host, ca;
  std::vector<std::pair<std::string, std::string>> accounts;  // name, token; a farm each
  uint16_t port = 0;
  size_t agents = 2000;
};

struct World {
  explicit World(const Options& the_options) : options(the_options) {
    tls.load_verify_file(options.ca);
    tls.set_verify_mode(asio::ssl::verify_peer);
  }
  const Options& options;
  asio::io_context loop{1};
  asio::ssl::context tls{asio::ssl::context::tls_client};
  protocol::Digest pool_id{};
  std::vector<uint8_t> noise;  // a result's payload
  Stage* stage = nullptr;
};

class Agent {
 public:
  Agent(World& world, size_t number)
      : wake(world.loop),
        world_(world),
        number_(number),
        key_(protocol::PrivateKey::generate()),
        instance_(protocol::random_hex16()),
        authority_(world.options.host + ":" + std::to_string(world.options.port)) {}

  asio::awaitable<bool> connect();
  asio::awaitable<bool> enrol();
  asio::awaitable<Answer> request(http::verb method, std::string path, std::string body, bool sign = true);
  asio::awaitable<void> ask_for_lease(Time due);
  asio::awaitable<void> submit(Time due);

  asio::steady_timer wake;
  std::optional<Time> submission_due;
  bool has_unit() const { return lease_.has_value(); }

 private:
  void count(const Answer& answer, std::vector<double>& times, Time due);
  std::string make_result();

  World& world_;
  const size_t number_;
  const protocol::PrivateKey key_;
  const std::string instance_, authority_;
  std::unique_ptr<Stream> stream_;
  beast::flat_buffer buffer_;
  std::optional<protocol::Lease> lease_;
};

asio::awaitable<bool> Agent::connect() {
  stream_ = std::make_unique<Stream>(world_.loop, world_.tls);
  stream_->set_verify_callback(asio::ssl::host_name_verification(world_.options.host));
  tcp::socket& socket = beast::get_lowest_layer(*stream_).socket();
  const size_t farm = number_ / agents_per_address;
  const asio::ip::address_v4 from(0x7f000101 + static_cast<uint32_t>(farm));
  boost::system::error_code failure;
  socket.open(tcp::v4());
  socket.bind({from, 0});
  auto [error] =
      co_await socket.async_connect({asio::ip::make_address(world_.options.host), world_.options.port}, no_throw);
  failure = error;
  if (!failure) {
    socket.set_option(tcp::no_delay(true));
    auto [handshake] = co_await stream_->async_handshake(asio::ssl::stream_base::client, no_throw);
    failure = handshake;
  }
  if (failure) stream_.reset();
  co_return !failure;
}

// Sends on the open connection, or on a new one where the pool has closed it.
asio::awaitable<Answer> Agent::request(http::verb method, std::string path, std::string body, bool sign) {
  Answer answer;
  if (!stream_) {
    const bool connected = co_await connect();
    if (!connected) co_return answer;
  }
  http::request<http::string_body> message(method, path, 11, std::move(body));
  message.set(http::field::host, authority_);
  if (sign) {
    const std::string_view verb = http::to_string(method);
    const auto* bytes = reinterpret_cast<const uint8_t*>(message.body().data());
    const auto signature = protocol::sign_request({verb, authority_, path, {bytes, message.body().size()}}, key_,
                                                  world_.pool_id, time(nullptr));
    message.set("Content-Digest", signature.content_digest);
    message.set("Signature-Input", signature.signature_input);
    message.set("Signature", signature.signature);
  }
  if (method != http::verb::get) message.prepare_payload();
  auto [sent, sent_bytes] = co_await http::async_write(*stream_, message, no_throw);
  http::response<http::string_body> response;
  buffer_.clear();
  boost::system::error_code failure = sent;
  if (!failure) {
    auto [received, received_bytes] = co_await http::async_read(*stream_, buffer_, response, no_throw);
    failure = received;
  }
  if (failure || !response.keep_alive()) stream_.reset();
  if (failure) co_return answer;
  answer.status = response.result_int();
  answer.body = json::parse(response.body(), nullptr, false);
  answer.retry_after = response.find(http::field::retry_after) != response.end();
  co_return answer;
}

asio::awaitable<bool> Agent::enrol() {
  const std::string name = "rig-" + std::to_string(number_);
  const auto& accounts = world_.options.accounts;
  const auto& [account, token] = accounts[number_ / agents_per_address % accounts.size()];
  const protocol::Enrolment enrolment{account, token, name, "gradminer/0.1.0", {}};
  const Answer answer = co_await request(http::verb::post, "/v1/rigs", protocol::to_json(enrolment).dump());
  co_return answer.status == 200;
}

void Agent::count(const Answer& answer, std::vector<double>& times, Time due) {
  Stage& stage = *world_.stage;
  if (answer.status == 200) {
    times.push_back(std::chrono::duration<double>(Clock::now() - due).count());
    return;
  }
  const bool has_name = answer.body.is_object() && answer.body.contains("error");
  ++stage.refused[answer.status == 0 ? "connection" : has_name ? answer.body["error"]["name"] : "no error object"];
  if ((answer.status == 429 || answer.status == 503) && !answer.retry_after) ++stage.without_retry_after;
}

asio::awaitable<void> Agent::ask_for_lease(Time due) {
  protocol::LeaseRequest ask;
  ask.request_id = protocol::random_hex16();
  ask.instance = instance_;
  ask.agent = "gradminer/0.1.0";
  ask.profiles = {"exact-fp32/1"};
  ask.codecs = {"fp32"};
  ask.kinds = {"train"};
  ask.memory_bytes = uint64_t{1} << 33;
  ask.flops = flops;
  const Answer answer = co_await request(http::verb::post, "/v1/leases", protocol::to_json(ask).dump());
  count(answer, world_.stage->lease_seconds, due);
  if (answer.status != 200) co_return;
  const bool had = has_unit();
  lease_ = protocol::lease_answer_from_json(answer.body).lease;
  if (!had && has_unit()) ++world_.stage->units;
}

// Well-formed, and the same whoever computes the unit: a check by repetition finds nothing.
std::string Agent::make_result() {
  const protocol::Unit& unit = lease_->unit;
  const protocol::BlobHeader header =
      protocol::make_blob_header(protocol::BlobKind::result, protocol::codec_from_name(unit.codec), unit.parameters);
  std::string blob(unit.max_result_bytes, '\0');
  std::memcpy(blob.data(), &header, sizeof header);
  std::memcpy(blob.data() + sizeof header, world_.noise.data(), blob.size() - sizeof header);
  for (size_t i = 0; i < unit.name.size(); ++i) {  // into the lowest byte of as many fp32
    blob[sizeof header + 4 * i] = unit.name[i];
  }
  return blob;
}

asio::awaitable<void> Agent::submit(Time due) {
  const protocol::Lease lease = *lease_;
  std::string blob = make_result();
  protocol::Submission submission;
  submission.lease = lease.lease;
  submission.unit = lease.unit.name;
  submission.attempt = lease.attempt;
  submission.result = {protocol::sha256(blob), blob.size()};
  submission.segments_root = protocol::sha256(lease.unit.name);
  submission.loss = 5;
  submission.tokens = lease.unit.tokens;
  submission.seconds = 1;
  const std::string path = "/v1/blobs/" + protocol::to_hex(submission.result.digest) + "/0";
  Answer answer = co_await request(http::verb::put, path, std::move(blob));
  if (answer.status == 200) {
    answer = co_await request(http::verb::post, "/v1/submissions", protocol::to_json(submission).dump());
  }
  count(answer, world_.stage->submission_seconds, due);
  if (answer.status == 200) lease_.reset();
}

// ---- all agents ----

asio::awaitable<void> connect_all(std::vector<std::unique_ptr<Agent>>& agents, size_t& next, size_t& enrolled) {
  while (next < agents.size()) {
    Agent& agent = *agents[next++];
    const bool is_enrolled = co_await agent.enrol();
    enrolled += is_enrolled;
  }
}

// One agent in one stage: a lease each `interval` from `first` on, and submissions when it is told to.
asio::awaitable<void> work(Agent& agent, Stage& stage, Time first, Clock::duration interval) {
  Time due = first;
  while (!stage.over()) {
    if (agent.submission_due) {
      co_await agent.submit(*agent.submission_due);
      agent.submission_due.reset();
    } else if (Clock::now() >= due) {
      co_await agent.ask_for_lease(due);
      for (due += interval; due < Clock::now(); due += interval) ++stage.missed;
    } else {
      agent.wake.expires_at(std::min(due, stage.end));
      co_await agent.wake.async_wait(no_throw);
    }
  }
}

// Tells agents that hold a unit to submit, at the stage's rate.
asio::awaitable<void> hand_out_submissions(asio::io_context& loop, std::vector<std::unique_ptr<Agent>>& agents,
                                           Stage& stage) {
  if (stage.submissions_per_second <= 0) co_return;
  asio::steady_timer timer(loop);
  size_t next = 0;
  for (Time due = stage.begin; due < stage.end; due += in_seconds(1 / stage.submissions_per_second)) {
    timer.expires_at(due);
    co_await timer.async_wait(no_throw);
    for (size_t tried = 0; tried < agents.size(); ++tried) {
      Agent& agent = *agents[next++ % agents.size()];
      if (!agent.has_unit() || agent.submission_due) continue;
      agent.submission_due = due;
      agent.wake.cancel();
      ++stage.submissions_begun;
      break;
    }
  }
}

Stage run_stage(World& world, std::vector<std::unique_ptr<Agent>>& agents, Stage stage) {
  stage.begin = Clock::now() + std::chrono::milliseconds(100);
  stage.end = stage.begin + in_seconds(stage.seconds);
  world.stage = &stage;
  const double interval = static_cast<double>(agents.size()) / stage.leases_per_second;
  for (size_t i = 0; i < agents.size(); ++i) {
    const Time first = stage.begin + in_seconds(static_cast<double>(i) / stage.leases_per_second);
    asio::co_spawn(world.loop, work(*agents[i], stage, first, in_seconds(interval)), asio::detached);
  }
  asio::co_spawn(world.loop, hand_out_submissions(world.loop, agents, stage), asio::detached);
  world.loop.restart();
  world.loop.run();  // until every request has its answer
  return stage;
}

void run(const Options& options) {
  World world(options);
  world.noise.resize(2 << 20);
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 1e-4f);
  for (size_t i = 0; i < world.noise.size(); i += sizeof(float)) {
    const float value = normal(random);
    std::memcpy(world.noise.data() + i, &value, sizeof value);
  }
  std::vector<std::unique_ptr<Agent>> agents;
  for (size_t i = 0; i < options.agents; ++i) agents.push_back(std::make_unique<Agent>(world, i));

  asio::co_spawn(
      world.loop,
      [&]() -> asio::awaitable<void> {
        const Answer pool = co_await agents[0]->request(http::verb::get, "/v1/pool", "", false);
        if (pool.status != 200) throw std::runtime_error("no pool answers at " + options.host);
        world.pool_id = protocol::pool_info_from_json(pool.body).pool_id;
      },
      [](std::exception_ptr failure) {
        if (failure) std::rethrow_exception(failure);
      });
  world.loop.run();
  size_t next = 0, enrolled = 0;
  const Time begin = Clock::now();
  for (size_t i = 0; i < connecting_at_once; ++i) {
    asio::co_spawn(world.loop, connect_all(agents, next, enrolled), asio::detached);
  }
  world.loop.restart();
  world.loop.run();
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  std::cout << json{{"connected", enrolled}, {"seconds", seconds}} << std::endl;

  Stage stage;
  while (std::cin >> stage.leases_per_second >> stage.submissions_per_second >> stage.seconds) {
    std::cout << report(run_stage(world, agents, stage)) << std::endl;
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Many agents against one pool; see the head of load_generator.cpp");
  Options options;
  app.add_option("--host", options.host, "The pool's IPv4 address")->required();
  app.add_option("--port", options.port)->required();
  app.add_option("--ca", options.ca, "PEM")->required();
  app.add_option("--account", options.accounts, "NAME TOKEN; several: one for each 100 agents in turn")->required();
  app.add_option("--agents", options.agents)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    run(options);
  } catch (const std::exception& error) {
    std::cerr << "load_generator: " << error.what() << std::endl;
    return 1;
  }
}
