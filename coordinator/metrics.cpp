#include "metrics.h"

#include <prometheus/counter.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>

namespace pool {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

const prometheus::Histogram::BucketBoundaries request_buckets{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                                              0.1,   0.25,   0.5,   1,    2.5,   10};

// One family of values that are read and not counted here.
MetricFamily& add_family(std::vector<MetricFamily>& families, const char* name, const char* help, MetricType type) {
  return families.emplace_back(MetricFamily{name, help, type, {}});
}

void add_value(MetricFamily& family, double value, std::vector<ClientMetric::Label> labels = {}) {
  ClientMetric metric;
  metric.label = std::move(labels);
  (family.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  family.metric.push_back(std::move(metric));
}

void add_jobs(std::vector<MetricFamily>& families, const std::vector<JobStatus>& jobs) {
  struct Row {
    const char *name, *help;
    MetricType type;
    double (*value)(const JobStatus&);
  };
  static const Row rows[] = {
      {"gradpool_round", "Rounds closed of a job.", MetricType::Gauge,
       [](const JobStatus& job) { return static_cast<double>(job.rounds_done); }},
      {"gradpool_rounds_planned", "Rounds that a job will have.", MetricType::Gauge,
       [](const JobStatus& job) { return static_cast<double>(job.description.rounds); }},
      {"gradpool_job_running", "1 while a job is in state running.", MetricType::Gauge,
       [](const JobStatus& job) { return job.state == "running" ? 1.0 : 0.0; }},
      {"gradpool_round_closed_timestamp_seconds", "When a job's newest round closed; 0 before the first.",
       MetricType::Gauge, [](const JobStatus& job) { return static_cast<double>(job.last_round_closed); }},
      {"gradpool_units_accepted_total", "Units accepted.", MetricType::Counter,
       [](const JobStatus& job) { return static_cast<double>(job.units_accepted); }},
      {"gradpool_units_rejected_total", "Units rejected.", MetricType::Counter,
       [](const JobStatus& job) { return static_cast<double>(job.units_rejected); }},
      {"gradpool_units_out", "Units leased and not yet submitted.", MetricType::Gauge,
       [](const JobStatus& job) { return static_cast<double>(job.units_out); }},
      {"gradpool_checks_total", "Units repeated by another account.", MetricType::Counter,
       [](const JobStatus& job) { return static_cast<double>(job.checks_done); }},
      {"gradpool_checks_failed_total", "Repetitions that did not give the same digest.", MetricType::Counter,
       [](const JobStatus& job) { return static_cast<double>(job.checks_failed); }},
      {"gradpool_tokens_total", "Tokens of accepted training units.", MetricType::Counter,
       [](const JobStatus& job) { return static_cast<double>(job.tokens); }},
      {"gradpool_tokens_per_second", "Training speed over the newest rounds.", MetricType::Gauge,
       [](const JobStatus& job) { return job.tokens_per_second; }},
      {"gradpool_budget_microcredits", "Budget of a job.", MetricType::Gauge,
       [](const JobStatus& job) { return static_cast<double>(job.budget); }},
      {"gradpool_spent_microcredits_total", "Paid for a job, in escrow included.", MetricType::Counter,
       [](const JobStatus& job) { return static_cast<double>(job.spent); }},
  };
  for (const Row& row : rows) {
    MetricFamily& family = add_family(families, row.name, row.help, row.type);
    for (const JobStatus& job : jobs) add_value(family, row.value(job), {{"job", job.description.job}});
  }
  const auto add_loss = [&](const char* name, const char* help, auto losses) {
    MetricFamily& family = add_family(families, name, help, MetricType::Gauge);
    for (const JobStatus& job : jobs) {
      if (!(job.*losses).empty()) add_value(family, (job.*losses).back().second, {{"job", job.description.job}});
    }
  };
  add_loss("gradpool_validation_loss", "Newest validation loss of a job.", &JobStatus::validation_loss);
  add_loss("gradpool_training_loss", "Mean training loss of a job's newest round.", &JobStatus::training_loss);
}

std::vector<MetricFamily> families_of(const Snapshot& snapshot, const HttpServer& server) {
  const PoolStatus& status = snapshot.status;
  std::vector<MetricFamily> families;
  add_jobs(families, status.jobs);
  const auto add_one = [&](const char* name, const char* help, MetricType type, double value) {
    add_value(add_family(families, name, help, type), value);
  };
  const auto active = std::count_if(status.rigs.begin(), status.rigs.end(), [&](const RigStatus& rig) {
    return rig.state == "active" && snapshot.time - rig.last_seen < active_rig_seconds;
  });
  add_one("gradpool_rigs_active", "Rigs heard of in the last 2 minutes.", MetricType::Gauge,
          static_cast<double>(active));
  add_one("gradpool_rigs_enrolled", "Rigs enrolled, those revoked and barred included.", MetricType::Gauge,
          static_cast<double>(status.rigs.size()));
  add_one("gradpool_bytes_up_total", "Bytes of results received since the store was made.", MetricType::Counter,
          static_cast<double>(status.bytes_up));
  add_one("gradpool_bytes_down_total", "Bytes of blobs sent since the store was made.", MetricType::Counter,
          static_cast<double>(status.bytes_down));
  add_one("gradpool_connections", "Connections open now, on all listeners.", MetricType::Gauge,
          static_cast<double>(server.connections()));
  add_one("gradpool_healthy", "0 while the pool's own work fails (see the log and /healthz).", MetricType::Gauge,
          snapshot.failure.empty() ? 1 : 0);
  add_one("gradpool_certificate_expiry_timestamp_seconds", "When the certificate of the API expires.",
          MetricType::Gauge, static_cast<double>(server.certificate_expiry()));
  add_one("gradpool_certificate_reload_failed",
          "1 after a SIGHUP that found a wrong certificate or key: the old one stays in use.", MetricType::Gauge,
          server.certificate_reload_failed() ? 1 : 0);
  MetricFamily& refusals = add_family(families, "gradpool_refusals_total",
                                      "Refused requests by error name since the store was made.", MetricType::Counter);
  for (const auto& [error, count] : status.refusals)
    add_value(refusals, static_cast<double>(count), {{"error", error}});
  std::erase_if(families, [](const MetricFamily& family) { return family.metric.empty(); });
  return families;
}

}  // namespace

struct Metrics::Impl {
  prometheus::Registry registry;
  prometheus::Family<prometheus::Counter>& requests =
      prometheus::BuildCounter()
          .Name("gradpool_requests_total")
          .Help("Requests answered by this process, by route and HTTP status.")
          .Register(registry);
  prometheus::Family<prometheus::Histogram>& seconds =
      prometheus::BuildHistogram()
          .Name("gradpool_request_seconds")
          .Help("Time from a request's first byte to its answer's last, by route.")
          .Register(registry);
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

void Metrics::count(const HttpExchange& exchange) {
  const std::string route(exchange.route);
  impl_->requests.Add({{"route", route}, {"code", std::to_string(exchange.status)}}).Increment();
  impl_->seconds.Add({{"route", route}}, request_buckets).Observe(exchange.seconds);
}

std::string Metrics::text(const Snapshot& snapshot, const HttpServer& server) const {
  std::vector<MetricFamily> families = impl_->registry.Collect();
  std::vector<MetricFamily> read = families_of(snapshot, server);
  families.insert(families.end(), read.begin(), read.end());
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace pool
