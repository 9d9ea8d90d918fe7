#include "status_page.h"

#include <nlohmann/json.hpp>

#include "protocol/digest.h"

// Of page/embedded.S.
extern "C" {
extern const char page_index_html_begin[], page_index_html_end[];
extern const char page_page_js_begin[], page_page_js_end[];
extern const char page_style_css_begin[], page_style_css_end[];
extern const char page_chart_js_begin[], page_chart_js_end[];
}

namespace pool {
namespace {

using nlohmann::json;

constexpr size_t max_points = 500;

// Every k-th pair and the last one.
json thinned(const std::vector<std::pair<uint64_t, float>>& losses) {
  const size_t stride = losses.size() / max_points + 1;
  json points = json::array();
  for (size_t i = 0; i < losses.size(); ++i) {
    if (i % stride == 0 || i + 1 == losses.size()) points.push_back({losses[i].first, losses[i].second});
  }
  return points;
}

json amounts(const std::map<std::string, uint64_t>& earned) {
  json result = json::object();
  for (const auto& [account, amount] : earned) result[account] = std::to_string(amount);
  return result;
}

json to_json(const JobStatus& job) {
  return {{"job", job.description.job},
          {"state", job.state},
          {"detail", job.detail},
          {"rounds", job.description.rounds},
          {"rounds_done", job.rounds_done},
          {"parameters", job.description.parameters},
          {"created", job.created},
          {"last_round_closed", job.last_round_closed},
          {"validation_loss", thinned(job.validation_loss)},
          {"training_loss", thinned(job.training_loss)},
          {"units_accepted", job.units_accepted},
          {"units_rejected", job.units_rejected},
          {"units_out", job.units_out},
          {"checks_done", job.checks_done},
          {"checks_failed", job.checks_failed},
          {"tokens", job.tokens},
          {"tokens_per_second", job.tokens_per_second},
          {"weights_digest", job.weights_digest},
          {"budget", std::to_string(job.budget)},
          {"spent", std::to_string(job.spent)},
          {"earned", amounts(job.earned)}};
}

json to_json(const RigStatus& rig, int64_t now) {
  const bool active = rig.state == "active";
  return {{"rig", rig.identity.rig_id},
          {"account", rig.identity.account},
          {"key", protocol::to_hex(rig.identity.key)},
          {"agent", rig.agent},
          {"state", active && now - rig.last_seen >= active_rig_seconds ? "away" : rig.state},
          {"reason", rig.reason},
          {"last_seen", rig.last_seen},
          {"tokens_per_second", rig.tokens_per_second},
          {"accepted", rig.accepted},
          {"rejected", rig.rejected},
          {"earned", std::to_string(rig.earned)}};
}

struct File {
  const char *path, *content_type, *begin, *end;
};
const File files[] = {
    {"/", "text/html; charset=utf-8", page_index_html_begin, page_index_html_end},
    {"/page.js", "text/javascript; charset=utf-8", page_page_js_begin, page_page_js_end},
    {"/style.css", "text/css; charset=utf-8", page_style_css_begin, page_style_css_end},
    {"/chart.js", "text/javascript; charset=utf-8", page_chart_js_begin, page_chart_js_end},
};

HttpResponse text_response(int status, const char* content_type, std::string body) {
  HttpResponse response;
  response.status = status;
  response.content_type = content_type;
  response.body = std::move(body);
  response.headers = {{"Cache-Control", "no-cache"},
                      {"Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'"},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Referrer-Policy", "no-referrer"}};
  return response;
}

}  // namespace

std::string status_json(const Snapshot& snapshot) {
  json jobs = json::array(), rigs = json::array();
  for (const JobStatus& job : snapshot.status.jobs) jobs.push_back(to_json(job));
  for (const RigStatus& rig : snapshot.status.rigs) rigs.push_back(to_json(rig, snapshot.time));
  const json status{{"software", "gradpool/" GRADMINER_VERSION},
                    {"time", snapshot.time},
                    {"failure", snapshot.failure},
                    {"jobs", std::move(jobs)},
                    {"rigs", std::move(rigs)},
                    {"bytes_up", snapshot.status.bytes_up},
                    {"bytes_down", snapshot.status.bytes_down},
                    {"refusals", snapshot.status.refusals}};
  return status.dump(-1, ' ', false, json::error_handler_t::replace);
}

HttpAdmission StatusPage::admit(const HttpRequest& request) noexcept {
  HttpAdmission admission;
  if (request.method != "GET") {
    admission.refusal = text_response(405, "text/plain; charset=utf-8", "only GET is answered here\n");
    admission.refusal->headers.emplace_back("Allow", "GET");
  }
  return admission;
}

HttpResponse StatusPage::handle(const HttpRequest& request) noexcept {
  const std::shared_ptr<const Snapshot> snapshot = background_.snapshot();
  if (request.path == "/status.json") return text_response(200, "application/json", status_json(*snapshot));
  if (request.path == "/metrics") {
    return text_response(200, "text/plain; version=0.0.4; charset=utf-8", metrics_.text(*snapshot, server_));
  }
  if (request.path == "/healthz") {
    const bool healthy = snapshot->failure.empty();
    return text_response(healthy ? 200 : 503, "text/plain; charset=utf-8", healthy ? "ok\n" : snapshot->failure + "\n");
  }
  for (const File& file : files) {
    if (request.path == file.path) return text_response(200, file.content_type, std::string(file.begin, file.end));
  }
  return text_response(404, "text/plain; charset=utf-8", "no such page\n");
}

}  // namespace pool
