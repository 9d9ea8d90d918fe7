#include "api.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "logging.h"
#include "protocol/json.h"

namespace pool {
namespace {

using nlohmann::json;
using protocol::Error;
using protocol::ErrorCode;

enum class Signer { nobody, new_key, rig };
enum class Body { none, control, piece };  // bounds: 0, max_json_bytes, max_piece_bytes

// One request that has been routed and, where the route says so, verified.
struct Call {
  Pool& pool;
  Background& background;
  const HttpRequest& request;
  std::vector<std::string> arguments;   // the path's {placeholders}
  protocol::VerifiedRequest signature;  // unless nobody signs
  RigIdentity rig;                      // where a rig signs

  protocol::Digest digest(size_t i) const { return protocol::digest_from_hex(arguments.at(i), "digest"); }
  uint64_t number(size_t i) const { return std::stoull(arguments.at(i)); }  // its form has been checked
  json body() const { return protocol::parse_object(request.body); }
};

HttpResponse json_response(const json& body) {
  HttpResponse response;
  response.body = body.dump();
  return response;
}

HttpResponse document_response(const protocol::SignedDocument& document, const char* text_key = "document") {
  return json_response(protocol::to_json(document, text_key));
}

std::span<const uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// ---- the answers, in the order of the table ----

HttpResponse get_pool(Call& call) { return json_response(protocol::to_json(call.pool.info())); }

HttpResponse enrol(Call& call) {
  const protocol::Enrolment enrolment = protocol::enrolment_from_json(call.body());
  call.pool.enrol(call.signature, enrolment);
  return json_response({{"rig_id", enrolment.rig_id}, {"account", enrolment.account}});
}

HttpResponse lease(Call& call) {
  const protocol::LeaseRequest request = protocol::lease_request_from_json(call.body());
  return json_response(protocol::to_json(call.pool.lease(call.rig, request)));
}

HttpResponse renew(Call& call) {
  return json_response(
      protocol::to_json(call.pool.renew(call.rig, call.arguments[0], protocol::renewal_from_json(call.body()))));
}

HttpResponse release(Call& call) {
  call.pool.release(call.rig, call.arguments[0], protocol::release_from_json(call.body()));
  return json_response(json::object());
}

HttpResponse put_piece(Call& call) {
  if (call.request.body.empty()) throw Error(ErrorCode::bad_request, "a piece of no bytes");
  const protocol::Digest digest = call.digest(0);
  const uint64_t held = call.pool.put_piece(call.rig, digest, call.number(1), bytes_of(call.request.body));
  call.background.count_traffic(call.request.body.size(), 0);
  return json_response({{"offset", held}});
}

HttpResponse get_blob(Call& call) {
  const auto file = call.pool.published_blob(call.digest(0));
  if (!file) throw Error(ErrorCode::not_found, "no published blob has this name");
  HttpResponse response;
  response.content_type = "application/octet-stream";
  response.file = *file;
  response.headers = {{"Cache-Control", "public, max-age=31536000, immutable"},  // its name is its digest
                      {"ETag", "\"" + call.arguments[0] + "\""}};
  return response;
}

HttpResponse submit(Call& call) {
  const protocol::Submission submission = protocol::submission_from_json(call.body());
  const auto receipt = call.pool.submit(call.rig, submission, call.signature, call.request.body);
  call.background.wake();
  return document_response(receipt, "receipt");
}

HttpResponse get_settlements(Call& call) {
  json list = json::array();
  for (const auto& document : call.pool.settlements(call.digest(0), call.number(1))) {
    list.push_back(protocol::to_json(document, "document"));
  }
  return json_response({{"settlements", std::move(list)}});
}

HttpResponse get_job(Call& call) { return document_response(call.pool.job(call.arguments[0])); }

HttpResponse get_record(Call& call) { return document_response(call.pool.record(call.arguments[0], call.number(1))); }

struct Route {
  const char* method;
  const char* pattern;
  Signer signer;
  Body body;
  HttpResponse (*answer)(Call&);
};

constexpr Route routes[] = {
    {"GET", "/v1/pool", Signer::nobody, Body::none, get_pool},
    {"POST", "/v1/rigs", Signer::new_key, Body::control, enrol},
    {"POST", "/v1/leases", Signer::rig, Body::control, lease},
    {"POST", "/v1/leases/{lease}/renewal", Signer::rig, Body::control, renew},
    {"POST", "/v1/leases/{lease}/release", Signer::rig, Body::control, release},
    {"PUT", "/v1/blobs/{digest}/{offset}", Signer::rig, Body::piece, put_piece},
    {"GET", "/v1/blobs/{digest}", Signer::nobody, Body::none, get_blob},
    {"POST", "/v1/submissions", Signer::rig, Body::control, submit},
    {"GET", "/v1/settlements/{rig}/{after}", Signer::nobody, Body::none, get_settlements},
    {"GET", "/v1/jobs/{job}", Signer::nobody, Body::none, get_job},
    {"GET", "/v1/jobs/{job}/records/{round}", Signer::nobody, Body::none, get_record},
};

// ---- routing ----

bool is_hex(std::string_view text, size_t length) {
  return text.size() == length && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool is_number(std::string_view text) {
  int64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  return failure == std::errc() && end == text.data() + text.size() && text[0] != '-' &&
         (text[0] != '0' || text.size() == 1);
}

bool has_form(std::string_view placeholder, std::string_view text) {
  if (placeholder == "{lease}") return is_hex(text, 32);
  if (placeholder == "{digest}" || placeholder == "{rig}") return is_hex(text, 64);
  if (placeholder == "{job}") return protocol::is_job_name(text);
  return is_number(text);
}

std::string_view next_segment(std::string_view& path) {
  path.remove_prefix(1);  // '/'
  const std::string_view segment = path.substr(0, path.find('/'));
  path.remove_prefix(segment.size());
  return segment;
}

// The placeholders' values if the path has the pattern's shape. Throws Error(bad_request) for a value of another form.
std::optional<std::vector<std::string>> match(std::string_view pattern, std::string_view path) {
  if (std::count(pattern.begin(), pattern.end(), '/') != std::count(path.begin(), path.end(), '/')) return std::nullopt;
  std::vector<std::string> arguments;
  std::vector<std::string_view> placeholders;
  while (!pattern.empty()) {
    const std::string_view expected = next_segment(pattern), segment = next_segment(path);
    if (expected.starts_with('{')) {
      placeholders.push_back(expected);
      arguments.emplace_back(segment);
    } else if (expected != segment) {
      return std::nullopt;
    }
  }
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (!has_form(placeholders[i], arguments[i])) {
      throw Error(ErrorCode::bad_request, "the path's " + std::string(placeholders[i]) + " is not of its form");
    }
  }
  return arguments;
}

struct Found {
  const Route& route;
  std::vector<std::string> arguments;
};

// The route of a path; no two have the same shape. Throws Error(bad_request) or Error(not_found).
Found find_route(std::string_view path) {
  const bool plain = std::all_of(path.begin(), path.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '/' || c == '.' || c == '_' || c == '-';
  });
  if (!plain) throw Error(ErrorCode::bad_request, "a path has letters, digits and / . _ - only; there are no queries");
  for (const Route& route : routes) {
    if (auto arguments = match(route.pattern, path)) return {route, std::move(*arguments)};
  }
  throw Error(ErrorCode::not_found, "no such path; this is a gradpool, its paths begin with /v1");
}

// A header that the signature depends on: missing is empty, repeated is malformed.
std::string signature_header(const HttpRequest& request, const char* name) {
  try {
    return request.header(name).value_or("");
  } catch (const Error& error) {
    throw Error(ErrorCode::signature_malformed, error.what());
  }
}

protocol::VerifiedRequest verify(const HttpRequest& request, const protocol::Digest& pool_id, int64_t now) {
  const std::string host = request.header("host").value();
  return protocol::verify_request(
      {request.method, host, request.path, bytes_of(request.body)},
      {signature_header(request, "content-digest"), signature_header(request, "signature-input"),
       signature_header(request, "signature")},
      pool_id, now);
}

// Further members of the error, docs/protocol.md section 2.1.
json details_of(ErrorCode code, const Call& call, int64_t now) {
  if (code == ErrorCode::clock_skew) return {{"pool_time", now}};
  if (code == ErrorCode::agent_too_old) return {{"minimum", call.pool.info().minimum_agent}};
  if (code == ErrorCode::blob_offset) return {{"offset", call.pool.held_bytes(call.rig, call.digest(0))}};
  return json::object();
}

// Refusals that mean a person has something to do, or that work was lost.
bool is_worth_a_log_line(ErrorCode code) {
  switch (code) {
    case ErrorCode::key_revoked:
    case ErrorCode::duplicate_instance:
    case ErrorCode::account_unknown:
    case ErrorCode::token_wrong:
    case ErrorCode::key_taken:
    case ErrorCode::agent_too_old:
    case ErrorCode::result_conflict:
    case ErrorCode::bad_result:
    case ErrorCode::blob_digest_mismatch:
    case ErrorCode::wrong_pool:
    case ErrorCode::clock_skew:
      return true;
    default:
      return false;
  }
}

}  // namespace

Api::Api(Pool& pool, Clock& clock, Background& background, Metrics& metrics, const ApiLimits& limits)
    : pool_(pool),
      clock_(clock),
      background_(background),
      metrics_(metrics),
      max_piece_bytes_(pool.info().max_piece_bytes),
      keys_(limits.per_key, 10 * limits.per_key),
      addresses_(limits.per_address, 10 * limits.per_address),
      log_lines_(1.0 / 60, 3) {}

HttpAdmission Api::admit(const HttpRequest& request) noexcept {
  HttpAdmission admission;
  try {
    if (!addresses_.take(request.peer)) throw Error(ErrorCode::rate_limited, "too many requests from this address");
    const Route& route = find_route(request.path).route;
    admission.route = route.pattern;
    admission.asks_for_work = route.answer == lease;
    if (request.method != route.method) {
      admission.refusal = error_response(
          Error(ErrorCode::method_not_allowed, "this path takes " + std::string(route.method) + " only"));
      admission.refusal->headers.emplace_back("Allow", route.method);
    }
    admission.max_body_bytes = route.body == Body::none      ? 0
                               : route.body == Body::control ? protocol::max_json_bytes
                                                             : max_piece_bytes_;
  } catch (const Error& error) {
    admission.refusal = error_response(error);
  }
  return admission;
}

HttpResponse Api::handle(const HttpRequest& request) noexcept {
  try {
    return answer(request);
  } catch (const std::exception& error) {
    if (log_lines_.take(error.what())) {
      log_event(spdlog::level::err, "request failed",
                {{"request", request.id}, {"path", request.path}, {"reason", error.what()}});
    }
  }
  return error_response(Error(ErrorCode::internal, "the pool failed; its log has the reason"),
                        {{"request", request.id}});
}

// Verifies and answers; refusals become responses, failures of the pool are thrown.
HttpResponse Api::answer(const HttpRequest& request) {
  auto [route, arguments] = find_route(request.path);
  Call call{pool_, background_, request, std::move(arguments), {}, {}};
  const int64_t now = clock_.now();
  try {
    if (route.signer != Signer::nobody) {
      call.signature = verify(request, pool_.pool_id(), now);
      if (!keys_.take(protocol::to_hex(call.signature.key))) {
        throw Error(ErrorCode::rate_limited, "too many requests from this key");
      }
    }
    if (route.signer == Signer::rig) call.rig = pool_.admit(call.signature);
    return route.answer(call);
  } catch (const Error& error) {
    log_refusal(request, error);
    return error_response(error, details_of(error.code, call, now));
  }
}

void Api::log_refusal(const HttpRequest& request, const Error& error) {
  const std::string name = protocol::name_of(error.code);
  if (!is_worth_a_log_line(error.code) || !log_lines_.take(name + request.peer)) return;
  log_event(spdlog::level::warn, "refused",
            {{"error", name}, {"reason", error.what()}, {"path", request.path}, {"peer", request.peer}});
}

void Api::finished(const HttpExchange& exchange) noexcept {
  metrics_.count(exchange);
  if (exchange.sent_file) background_.count_traffic(0, exchange.bytes_sent);
  if (!exchange.error_name.empty()) background_.count_refusal(exchange.error_name);
}

}  // namespace pool
