#include "url.h"

#include <curl/curl.h>

#include <algorithm>
#include <cctype>
#include <memory>

#include "exit.h"

namespace agent {
namespace {

std::string part(CURLU* url, CURLUPart which) {
  char* text = nullptr;
  if (curl_url_get(url, which, &text, 0) != CURLUE_OK) return "";
  std::string result(text);
  curl_free(text);
  return result;
}

[[noreturn]] void refuse(const std::string& text, const std::string& why) {
  throw Failure(Exit::input, "pool address \"" + text + "\": " + why + "; write https://HOST:PORT");
}

}  // namespace

Url parse_pool_url(const std::string& text) {
  const size_t scheme_end = text.find("://");
  if (scheme_end == std::string::npos) refuse(text, "the scheme is missing");
  if (text.compare(0, scheme_end, "https") != 0) {
    refuse(text, "gradminer speaks only https, not " + text.substr(0, scheme_end));
  }
  std::unique_ptr<CURLU, void (*)(CURLU*)> url(curl_url(), curl_url_cleanup);
  CURLUcode code = curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0);
  if (code != CURLUE_OK) refuse(text, curl_url_strerror(code));
  const std::string path = part(url.get(), CURLUPART_PATH);
  if (!path.empty() && path != "/") refuse(text, "a path (" + path + ") does not belong there");
  if (!part(url.get(), CURLUPART_QUERY).empty() || !part(url.get(), CURLUPART_FRAGMENT).empty()) {
    refuse(text, "a query does not belong there");
  }
  if (!part(url.get(), CURLUPART_USER).empty()) refuse(text, "the account goes into -u, the token into -p");
  if (!part(url.get(), CURLUPART_ZONEID).empty())
    refuse(text, "an address with the name of a network interface (%) is not supported");
  Url result;
  result.host = part(url.get(), CURLUPART_HOST);
  std::transform(result.host.begin(), result.host.end(), result.host.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const std::string port = part(url.get(), CURLUPART_PORT);
  if (!port.empty()) result.port = static_cast<uint16_t>(std::stoul(port));
  if (result.port == 0) refuse(text, "there is no port 0");
  result.authority = result.host;
  if (result.port != 443) result.authority.append(":").append(std::to_string(result.port));
  result.text = "https://" + result.authority;
  return result;
}

}  // namespace agent
