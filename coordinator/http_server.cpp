#include "http_server.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <atomic>
#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <fstream>
#include <list>
#include <unordered_map>
#include <unordered_set>

#include "errors.h"
#include "http_head.h"
#include "http_head_end.h"
#include "in_memory.h"
#include "logging.h"
#include "peer_address.h"

namespace pool {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::use_awaitable;
using asio::ip::tcp;
using boost::system::error_code;
using protocol::ErrorCode;
using std::chrono::seconds;
using std::chrono::steady_clock;

namespace {

constexpr size_t file_piece_bytes = 256 << 10;
constexpr size_t drained_bytes = 4 << 20;  // of a refused body, so that the client reads our answer before a reset
constexpr auto drain_time = seconds(2), shutdown_time = seconds(2), grace_time = seconds(4);

// `auto [ec, value] = co_await f(…, no_throw)`: network errors are ordinary here.
constexpr auto no_throw = asio::as_tuple(use_awaitable);

// ---- connections ----

struct Listener {
  tcp::acceptor acceptor;
  HttpLimits limits;
  std::optional<TlsFiles> files;
  std::optional<asio::ssl::context> tls;  // replaced by SIGHUP; connections keep the one they began with
  int64_t certificate_expires = 0;
  HttpHandler& handler;
  size_t connections = 0;
  std::unordered_map<std::string, size_t> connections_of;  // by client address

  void load_certificate() {
    TlsContext loaded = load_tls(*files);
    tls.emplace(loaded.context.release());  // Asio frees it
    certificate_expires = loaded.expires;
  }
};

// What an answer takes until its client has taken it.
size_t bytes_of(const HttpResponse& response) {
  return response.file.empty() ? response.body.size() : file_piece_bytes;
}

// One open connection, as far as a clean stop must know it.
struct Connection {
  beast::tcp_stream* stream = nullptr;
  bool idle = true;  // no request has begun
};

}  // namespace

struct HttpServer::Impl {
  explicit Impl(size_t workers) : worker_threads(workers) {}

  size_t bytes_in_memory = 0;  // outlives the loop, whose end ends the requests that count
  asio::io_context loop{1};
  asio::thread_pool worker_threads;
  asio::signal_set signals{loop};
  asio::steady_timer grace{loop};
  std::list<Listener> listeners;
  std::unordered_set<Connection*> open;
  std::atomic<size_t> open_count = 0;
  std::atomic<int64_t> expiry = 0;
  std::atomic<bool> reload_failed = false;
  size_t queued = 0;
  uint64_t next_id = 1;
  bool stopping = false;

  asio::awaitable<void> accept(Listener& listener);
  asio::awaitable<void> connection(Listener& listener, tcp::socket socket, std::string peer);
  template <class Stream>
  asio::awaitable<void> requests(Listener& listener, Stream& stream, const std::string& peer, Connection& self);
  template <class Stream>
  asio::awaitable<bool> one_request(Listener& listener, Stream& stream, const std::string& peer, std::string& buffer);
  template <class Stream>
  asio::awaitable<bool> read_body(Listener& listener, Stream& stream, std::string& buffer, Head& head);
  asio::awaitable<HttpResponse> work(Listener& listener, const HttpRequest& request, size_t max_queue);
  template <class Stream>
  asio::awaitable<bool> respond(Listener& listener, Stream& stream, const HttpRequest& request, HttpResponse response,
                                HttpExchange& exchange);
  template <class Stream>
  asio::awaitable<bool> send_file(Listener& listener, Stream& stream, http::response<http::empty_body>& header,
                                  const HttpRequest& request, std::ifstream& file, HttpExchange& exchange);
  asio::awaitable<void> wait_for_signals();
  void reload();
  void begin_stop();
  void note_expiry();
};

// Takes connections until the acceptor is closed.
asio::awaitable<void> HttpServer::Impl::accept(Listener& listener) {
  asio::steady_timer pause(loop);
  while (!stopping) {
    tcp::endpoint endpoint;
    auto [error, socket] = co_await listener.acceptor.async_accept(endpoint, no_throw);
    if (stopping) break;
    if (error) {  // usually no file descriptors left
      log_event(spdlog::level::warn, "cannot accept a connection", {{"reason", error.message()}});
      pause.expires_after(std::chrono::milliseconds(200));
      co_await pause.async_wait(no_throw);
      continue;
    }
    const std::string peer = address_of(endpoint);
    if (listener.connections >= listener.limits.max_connections ||
        listener.connections_of[peer] >= listener.limits.max_connections_per_address) {
      log_event(spdlog::level::debug, "too many connections", {{"peer", peer}});
      continue;  // the socket closes
    }
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    asio::co_spawn(loop, connection(listener, std::move(socket), peer), asio::detached);
  }
}

asio::awaitable<void> HttpServer::Impl::connection(Listener& listener, tcp::socket socket, std::string peer) {
  ++listener.connections, ++listener.connections_of[peer], ++open_count;
  Connection self;
  open.insert(&self);
  try {
    if (listener.files) {
      beast::ssl_stream<beast::tcp_stream> stream(std::move(socket), *listener.tls);
      beast::tcp_stream& lowest = beast::get_lowest_layer(stream);
      self.stream = &lowest;
      lowest.expires_after(seconds(listener.limits.handshake_seconds));
      auto [error] = co_await stream.async_handshake(asio::ssl::stream_base::server, no_throw);
      if (!error) {
        co_await requests(listener, stream, peer, self);
      } else if (ERR_GET_REASON(static_cast<unsigned long>(error.value())) == SSL_R_HTTP_REQUEST) {
        static const std::string plain =
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 46\r\nConnection: close\r\n\r\n"
            "This port speaks HTTPS. Use an https:// URL.\r\n";
        co_await asio::async_write(lowest, asio::buffer(plain), no_throw);
      } else {
        log_event(spdlog::level::debug, "TLS handshake failed", {{"peer", peer}, {"reason", error.message()}});
      }
    } else {
      beast::tcp_stream stream(std::move(socket));
      self.stream = &stream;
      co_await requests(listener, stream, peer, self);
    }
  } catch (const std::exception& error) {  // memory; the other connections go on
    log_event(spdlog::level::err, "connection failed", {{"peer", peer}, {"reason", error.what()}});
  }
  open.erase(&self);
  --open_count, --listener.connections;
  if (--listener.connections_of[peer] == 0) listener.connections_of.erase(peer);
  if (stopping && open.empty()) grace.cancel();
}

// One request after the other until either side closes.
template <class Stream>
asio::awaitable<void> HttpServer::Impl::requests(Listener& listener, Stream& stream, const std::string& peer,
                                                 Connection& self) {
  beast::tcp_stream& lowest = beast::get_lowest_layer(stream);
  std::string buffer;  // received and not yet used; at most max_header_bytes
  for (bool keep = true; keep && !stopping;) {
    if (buffer.empty()) {
      self.idle = true;
      char first;
      lowest.expires_after(seconds(listener.limits.idle_seconds));
      auto [error, length] = co_await stream.async_read_some(asio::buffer(&first, 1), no_throw);
      if (error || length == 0) co_return;
      buffer.push_back(first);
      self.idle = false;
    }
    keep = co_await one_request(listener, stream, peer, buffer);
  }
  // Say that nothing follows, and take what the client still sends: data left unread would turn the close into a reset
  // that can overtake our last answer.
  lowest.expires_after(shutdown_time);
  error_code ignored;
  if constexpr (!std::is_same_v<Stream, beast::tcp_stream>) {
    co_await stream.async_shutdown(no_throw);
  }
  lowest.socket().shutdown(tcp::socket::shutdown_send, ignored);
  lowest.expires_after(drain_time);
  std::string waste(64 << 10, '\0');
  for (size_t drained = 0; drained < drained_bytes;) {
    auto [error, length] = co_await lowest.async_read_some(asio::buffer(waste), no_throw);
    if (error) co_return;
    drained += length;
  }
}

HttpResponse busy() { return error_response(protocol::Error(ErrorCode::overloaded, "the pool is busy; try again")); }

// Reads, handles and answers one request. Returns whether the connection can take another.
template <class Stream>
asio::awaitable<bool> HttpServer::Impl::one_request(Listener& listener, Stream& stream, const std::string& peer,
                                                    std::string& buffer) {
  const auto start = steady_clock::now();
  HttpExchange exchange;
  Head head;
  size_t max_queue = listener.limits.max_queue;
  std::optional<HttpResponse> response;
  const auto room = [&, most = listener.limits.max_bytes_in_memory] { return most - std::min(most, bytes_in_memory); };

  beast::get_lowest_layer(stream).expires_after(seconds(listener.limits.header_seconds));
  auto dynamic = asio::dynamic_buffer(buffer, listener.limits.max_header_bytes);
  auto [error, head_bytes] = co_await asio::async_read_until(stream, dynamic, HeadEnd{}, no_throw);
  if (error && error != asio::error::not_found) co_return false;
  if (error) {
    response = error_response(
        protocol::Error(ErrorCode::too_large,
                        "the header is longer than " + std::to_string(listener.limits.max_header_bytes) + " bytes"));
  } else {
    try {
      head = parse_head(std::string_view(buffer).substr(0, head_bytes));
    } catch (const protocol::Error& refusal) {
      response = error_response(refusal);
    }
    buffer.erase(0, head_bytes);
  }
  head.request.peer = peer;
  head.request.id = std::to_string(next_id++);

  if (!response) {
    HttpAdmission admission = listener.handler.admit(head.request);
    exchange.route = admission.route;
    if (admission.asks_for_work) max_queue = (max_queue + 1) / 2;
    if (admission.refusal) {
      response = std::move(admission.refusal);
    } else if (head.body_bytes > admission.max_body_bytes) {
      response = error_response(
          protocol::Error(ErrorCode::too_large, "a body of " + std::to_string(head.body_bytes) + " bytes, at most " +
                                                    std::to_string(admission.max_body_bytes) + " are taken here"));
    } else if (head.body_bytes > room()) {
      response = busy();
    }
    if (response && head.body_bytes > 0) response->close = true;
  } else {
    response->close = true;  // where the next request would begin is unknown
  }

  if (!response) {
    const InMemory body(bytes_in_memory, head.body_bytes);
    if (!co_await read_body(listener, stream, buffer, head)) co_return false;
    exchange.bytes_received = head.body_bytes;
    response = co_await work(listener, head.request, max_queue);
    std::string().swap(head.request.body);
    if (bytes_of(*response) > room()) response = busy();  // whatever it has done, the client may ask again
  }
  const InMemory answer(bytes_in_memory, bytes_of(*response));
  if (!head.keep_alive || stopping) response->close = true;
  const bool keep = !response->close;
  const bool sent = co_await respond(listener, stream, head.request, std::move(*response), exchange);
  exchange.seconds = std::chrono::duration<double>(steady_clock::now() - start).count();
  listener.handler.finished(exchange);
  co_return sent&& keep;
}

// Takes the body from the buffer and the connection. False: the client went away or was too slow.
template <class Stream>
asio::awaitable<bool> HttpServer::Impl::read_body(Listener& listener, Stream& stream, std::string& buffer, Head& head) {
  const HttpLimits& limits = listener.limits;
  const size_t length = head.body_bytes, buffered = std::min(length, buffer.size());
  beast::get_lowest_layer(stream).expires_after(
      seconds(limits.header_seconds + static_cast<int64_t>(length) / limits.body_bytes_per_second));
  if (head.wants_continue && buffered < length) {
    static const std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    auto [error, written] = co_await asio::async_write(stream, asio::buffer(go_on), no_throw);
    if (error) co_return false;
  }
  head.request.body = buffer.substr(0, buffered);
  buffer.erase(0, buffered);
  head.request.body.resize(length);
  auto [error, received] =
      co_await asio::async_read(stream, asio::buffer(head.request.body.data() + buffered, length - buffered), no_throw);
  co_return !error;
}

asio::awaitable<HttpResponse> on_worker(HttpHandler& handler, const HttpRequest& request) {
  co_return handler.handle(request);
}

// The handler's answer, from a worker thread.
asio::awaitable<HttpResponse> HttpServer::Impl::work(Listener& listener, const HttpRequest& request, size_t max_queue) {
  if (queued >= max_queue) co_return busy();
  ++queued;
  HttpResponse response = co_await asio::co_spawn(worker_threads, on_worker(listener.handler, request), use_awaitable);
  --queued;
  co_return response;
}

// Returns whether all of it was sent.
template <class Stream>
asio::awaitable<bool> HttpServer::Impl::respond(Listener& listener, Stream& stream, const HttpRequest& request,
                                                HttpResponse response, HttpExchange& exchange) {
  std::ifstream file;
  if (!response.file.empty()) {
    file.open(response.file, std::ios::binary);
    if (!file) response = error_response(protocol::Error(ErrorCode::not_found, "the blob is no longer kept"));
  }
  http::response<http::empty_body> header(static_cast<http::status>(response.status), 11);
  header.set(http::field::server, "gradpool");
  header.set(http::field::date, http_date());
  header.set(http::field::content_type, response.content_type);
  for (const auto& [name, value] : response.headers) header.set(name, value);
  header.keep_alive(!response.close);
  exchange.error_name = response.error_name;
  if (file.is_open()) co_return co_await send_file(listener, stream, header, request, file, exchange);

  exchange.status = response.status;
  header.content_length(response.body.size());
  http::response<http::string_body> message(std::move(header.base()), std::move(response.body));
  beast::get_lowest_layer(stream).expires_after(
      seconds(listener.limits.write_seconds +
              static_cast<int64_t>(message.body().size()) / listener.limits.body_bytes_per_second));
  auto [error, written] = co_await http::async_write(stream, message, no_throw);
  if (!error) exchange.bytes_sent = message.body().size();
  co_return !error;
}

asio::awaitable<size_t> read_piece(std::ifstream& file, std::string& piece, size_t length) {
  file.read(piece.data(), static_cast<std::streamsize>(length));
  co_return static_cast<size_t>(file.gcount());
}

template <class Stream>
asio::awaitable<bool> HttpServer::Impl::send_file(Listener& listener, Stream& stream,
                                                  http::response<http::empty_body>& header, const HttpRequest& request,
                                                  std::ifstream& file, HttpExchange& exchange) {
  const auto size = static_cast<uint64_t>(file.seekg(0, std::ios::end).tellg());
  uint64_t begin = 0, length = size;
  std::optional<HttpResponse> refusal;
  header.set(http::field::accept_ranges, "bytes");
  try {
    const auto range = request.headers.find("range");
    if (range != request.headers.end()) {
      if (const auto bytes = parse_range(range->second, size)) {
        begin = bytes->first, length = bytes->second - begin + 1;
        header.result(http::status::partial_content);
        header.set(http::field::content_range,
                   "bytes " + std::to_string(begin) + "-" + std::to_string(bytes->second) + "/" + std::to_string(size));
      }
    }
  } catch (const std::out_of_range&) {
    refusal = range_response(size, !header.keep_alive());
  }
  if (refusal) co_return co_await respond(listener, stream, request, std::move(*refusal), exchange);
  exchange.status = static_cast<int>(header.result_int());
  exchange.sent_file = true;
  header.content_length(length);
  beast::tcp_stream& lowest = beast::get_lowest_layer(stream);
  lowest.expires_after(seconds(listener.limits.write_seconds));
  http::response_serializer<http::empty_body> serializer(header);
  auto [header_error, header_bytes] = co_await http::async_write_header(stream, serializer, no_throw);
  if (header_error) co_return false;

  file.seekg(static_cast<std::streamoff>(begin));
  std::string piece(std::min<uint64_t>(length, file_piece_bytes), '\0');
  while (exchange.bytes_sent < length) {
    const size_t wanted = std::min<uint64_t>(length - exchange.bytes_sent, piece.size());
    const size_t got = co_await asio::co_spawn(worker_threads, read_piece(file, piece, wanted), use_awaitable);
    if (got != wanted) co_return false;  // the disk failed: the client sees a short body and resumes
    lowest.expires_after(seconds(listener.limits.write_seconds));
    auto [error, written] = co_await asio::async_write(stream, asio::buffer(piece.data(), got), no_throw);
    if (error) co_return false;
    exchange.bytes_sent += got;
  }
  co_return true;
}

asio::awaitable<void> HttpServer::Impl::wait_for_signals() {
  while (!stopping) {
    auto [error, signal] = co_await signals.async_wait(no_throw);
    if (error) co_return;
    if (signal == SIGHUP) {
      reload();
    } else {
      log_event(spdlog::level::info, "stopping", {{"signal", signal == SIGINT ? "SIGINT" : "SIGTERM"}});
      begin_stop();
    }
  }
}

void HttpServer::Impl::reload() {
  for (Listener& listener : listeners) {
    if (!listener.files) continue;
    try {
      listener.load_certificate();
      reload_failed = false;
      log_event(spdlog::level::info, "certificate read again", {{"file", listener.files->certificate.string()}});
    } catch (const std::exception& error) {
      log_event(spdlog::level::err, "the old certificate stays in use", {{"reason", error.what()}});
      reload_failed = true;
    }
  }
  note_expiry();
}

void HttpServer::Impl::note_expiry() {
  int64_t first = 0;
  for (const Listener& listener : listeners) {
    if (listener.files && (first == 0 || listener.certificate_expires < first)) first = listener.certificate_expires;
  }
  expiry = first;
  const int64_t left = first - time(nullptr), day = 86400;
  if (first != 0 && left < 14 * day) {
    log_event(spdlog::level::warn, left < 0 ? "the certificate has expired" : "the certificate expires soon",
              {{"days_left", left / day}});
  }
}

// Idle connections close at once, busy ones after their response, all when the grace time is over.
void HttpServer::Impl::begin_stop() {
  if (stopping) return;
  stopping = true;
  error_code ignored;
  signals.cancel(ignored);
  for (Listener& listener : listeners) listener.acceptor.close(ignored);
  for (Connection* connection : open) {
    if (connection->idle && connection->stream != nullptr) connection->stream->socket().cancel(ignored);
  }
  grace.expires_after(open.empty() ? seconds(0) : seconds(grace_time));
  grace.async_wait([this](error_code) { loop.stop(); });
}

HttpServer::HttpServer(size_t workers) : impl_(std::make_unique<Impl>(workers)) {}
HttpServer::~HttpServer() = default;

uint16_t HttpServer::listen(const std::string& address, const HttpLimits& limits, const std::optional<TlsFiles>& tls,
                            HttpHandler& handler) {
  const auto [host, port] = split_address(address);
  error_code error;
  const auto endpoints = tcp::resolver(impl_->loop).resolve(host, std::to_string(port), tcp::resolver::passive, error);
  if (error || endpoints.empty())
    throw Failure(ExitCode::bad_input, "cannot listen on " + address + ": " + error.message());
  const tcp::endpoint endpoint = *endpoints.begin();
  tcp::acceptor acceptor(impl_->loop);
  acceptor.open(endpoint.protocol());
  acceptor.set_option(tcp::acceptor::reuse_address(true));
  acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(tcp::acceptor::max_listen_connections, error);
  if (error) {
    std::string why = error.message(), advice;
    if (error == asio::error::address_in_use)
      why = "another process has this port", advice = "; choose another, or see `ss -ltnp`";
    if (error == boost::system::errc::address_not_available) advice = ": this machine does not have that address";
    if (error == asio::error::access_denied && port < 1024) advice = "; ports below 1024 need CAP_NET_BIND_SERVICE";
    throw Failure(ExitCode::address_in_use, "cannot listen on " + address + ": " + why + advice);
  }
  const uint16_t bound = acceptor.local_endpoint().port();
  impl_->listeners.push_back(Listener{.acceptor = std::move(acceptor),
                                      .limits = limits,
                                      .files = tls,
                                      .tls = {},
                                      .handler = handler,
                                      .connections_of = {}});
  if (tls) impl_->listeners.back().load_certificate();
  impl_->note_expiry();
  return bound;
}

void HttpServer::run() {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) impl_->signals.add(signal);
  asio::co_spawn(impl_->loop, impl_->wait_for_signals(), asio::detached);
  for (Listener& listener : impl_->listeners) {
    asio::co_spawn(impl_->loop, impl_->accept(listener), asio::detached);
  }
  impl_->loop.run();
  impl_->worker_threads.join();
}

void HttpServer::stop() {
  asio::post(impl_->loop, [impl = impl_.get()] { impl->begin_stop(); });
}

size_t HttpServer::connections() const { return impl_->open_count; }
int64_t HttpServer::certificate_expiry() const { return impl_->expiry; }
bool HttpServer::certificate_reload_failed() const { return impl_->reload_failed; }

}  // namespace pool
