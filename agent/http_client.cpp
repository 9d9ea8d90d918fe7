#include "http_client.h"

#include <openssl/evp.h>

#include <algorithm>
#include <ctime>
#include <exception>
#include <mutex>
#include <vector>

#include "tls_diagnosis.h"

namespace agent {
namespace {

void check(CURLcode code) {
  if (code != CURLE_OK) throw std::runtime_error(std::string("libcurl: ") + curl_easy_strerror(code));
}

template <class T>
void set(CURL* curl, CURLoption option, T value) {
  check(curl_easy_setopt(curl, option, value));
}

std::vector<uint8_t> bytes_from_hex(const std::string& hex) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoul(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

std::string curl_pin(const std::string& hex) {
  const std::vector<uint8_t> bytes = bytes_from_hex(hex);
  std::string text(4 * ((bytes.size() + 2) / 3), '\0');
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), bytes.data(), static_cast<int>(bytes.size()));
  return "sha256//" + text;
}

struct HeaderList {
  curl_slist* list = nullptr;
  ~HeaderList() { curl_slist_free_all(list); }
  void add(const std::string& line) {
    curl_slist* longer = curl_slist_append(list, line.c_str());
    if (longer == nullptr) throw std::bad_alloc();
    list = longer;
  }
};

}  // namespace

// What libcurl's callbacks see of one exchange. Exceptions must not pass through C: they wait here.
struct HttpClient::Exchange {
  const HttpRequest& request;
  const Stop& stop;
  CURL* curl;
  HttpResponse response;
  uint64_t received = 0;
  bool too_large = false, cancelled = false;
  std::exception_ptr failure;

  size_t take(std::span<const uint8_t> bytes) {
    try {
      long status = 0;
      check(curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status));
      const bool streamed = request.on_body && (status == 200 || status == 206);
      received += bytes.size();
      if (received > (streamed ? request.max_answer_bytes : protocol::max_json_bytes)) {
        too_large = true;
        return 0;
      }
      if (streamed) {
        request.on_body(static_cast<int>(status), bytes);
      } else {
        response.body.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      }
      return bytes.size();
    } catch (...) {
      failure = std::current_exception();
      return 0;
    }
  }

  static size_t on_write(char* data, size_t size, size_t count, void* self) {
    return static_cast<Exchange*>(self)->take({reinterpret_cast<const uint8_t*>(data), size * count});
  }

  static int on_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    auto* exchange = static_cast<Exchange*>(self);
    if (exchange->request.parting) return 0;
    exchange->cancelled = exchange->stop.requested() || (exchange->request.cancelled && exchange->request.cancelled());
    return exchange->cancelled ? 1 : 0;
  }
};

HttpClient::HttpClient(const Url& url, const TlsTrust& trust, const Stop& stop, const Patience& patience)
    : url_(url), trust_(trust), patience_(patience), stop_(stop), curl_(nullptr, curl_easy_cleanup) {
  static std::once_flag started;
  std::call_once(started, [] { check(curl_global_init(CURL_GLOBAL_DEFAULT)); });
  curl_.reset(curl_easy_init());
  if (!curl_) throw std::runtime_error("libcurl cannot start");
}

HttpResponse HttpClient::send(const HttpRequest& request) {
  CURL* curl = curl_.get();
  curl_easy_reset(curl);  // options only: the connection stays
  Exchange exchange{request, stop_, curl, {}, 0, false, false, nullptr};
  char detail[CURL_ERROR_SIZE] = "";
  const std::string address = url_.text + request.path;
  HeaderList headers;
  for (const std::string& line : request.headers) headers.add(line);
  headers.add("Expect:");  // no waiting for 100-continue

  set(curl, CURLOPT_URL, address.c_str());
  set(curl, CURLOPT_PROTOCOLS_STR, "https");
  set(curl, CURLOPT_FOLLOWLOCATION, 0L);
  set(curl, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(curl, CURLOPT_USERAGENT, "gradminer/" GRADMINER_VERSION);
  set(curl, CURLOPT_NOSIGNAL, 1L);
  set(curl, CURLOPT_QUICK_EXIT, 1L);  // a stop does not wait for a name server
  set(curl, CURLOPT_TCP_KEEPALIVE, 1L);
  set(curl, CURLOPT_ERRORBUFFER, detail);
  set(curl, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  const bool pin_only = !trust_.pin.empty() && trust_.ca_file.empty();
  set(curl, CURLOPT_SSL_VERIFYPEER, pin_only ? 0L : 1L);
  set(curl, CURLOPT_SSL_VERIFYHOST, pin_only ? 0L : 2L);
  if (!trust_.ca_file.empty()) {
    set(curl, CURLOPT_CAINFO, trust_.ca_file.c_str());
    set(curl, CURLOPT_CAPATH, static_cast<const char*>(nullptr));
  }
  if (!trust_.pin.empty()) set(curl, CURLOPT_PINNEDPUBLICKEY, curl_pin(trust_.pin).c_str());

  set(curl, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  set(curl, CURLOPT_HTTPHEADER, headers.list);
  if (request.method != "GET") {
    set(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    set(curl, CURLOPT_POSTFIELDS, request.body.empty() ? "" : reinterpret_cast<const char*>(request.body.data()));
  }
  set(curl, CURLOPT_WRITEFUNCTION, &Exchange::on_write);
  set(curl, CURLOPT_WRITEDATA, static_cast<void*>(&exchange));
  set(curl, CURLOPT_NOPROGRESS, 0L);
  set(curl, CURLOPT_XFERINFOFUNCTION, &Exchange::on_progress);
  set(curl, CURLOPT_XFERINFODATA, static_cast<void*>(&exchange));
  set(curl, CURLOPT_CONNECTTIMEOUT, patience_.connect_seconds);
  set(curl, CURLOPT_LOW_SPEED_LIMIT, patience_.bytes_per_second);
  set(curl, CURLOPT_LOW_SPEED_TIME, patience_.slow_seconds);
  if (request.parting) set(curl, CURLOPT_TIMEOUT, 2L);

  const CURLcode code = curl_easy_perform(curl);
  if (exchange.failure) std::rethrow_exception(exchange.failure);
  if (exchange.cancelled) throw TransportError(TransportError::Kind::cancelled, "stopped");
  if (exchange.too_large) {
    throw TransportError(TransportError::Kind::unreachable, address + " answered with more bytes than it may");
  }
  if (code != CURLE_OK) throw error_of(code, detail);
  long status = 0;
  check(curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status));
  exchange.response.status = static_cast<int>(status);
  curl_off_t retry_after = 0;
  check(curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &retry_after));
  if (retry_after > 0) exchange.response.retry_after = static_cast<double>(retry_after);
  return std::move(exchange.response);
}

TransportError HttpClient::error_of(CURLcode code, const char* detail) const {
  const std::string place = url_.host + ":" + std::to_string(url_.port);
  const std::string reason = *detail != '\0' ? detail : curl_easy_strerror(code);
  using Kind = TransportError::Kind;
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
      return {Kind::unreachable,
              "the name " + url_.host + " is not known (DNS); check the pool's address and the network"};
    case CURLE_COULDNT_CONNECT:
      return {Kind::unreachable,
              "no pool answers at " + place + " (" + reason + "); check address and port, and that the pool runs"};
    case CURLE_SSL_CACERT_BADFILE:
      return {Kind::tls, "--ca " + trust_.ca_file + " cannot be read as PEM certificates"};
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
      return describe_tls_failure(url_, trust_, code, reason);
    default:
      return {Kind::unreachable, place + ": " + reason};
  }
}

}  // namespace agent
