#include "status.h"

#include <algorithm>

#include "accounts.h"
#include "errors.h"

namespace pool {
namespace {

constexpr int rate_rounds = 8;  // over which tokens per second are taken

std::vector<std::pair<uint64_t, float>> read_curve(Statement rows) {
  std::vector<std::pair<uint64_t, float>> curve;
  while (rows.executeStep()) curve.emplace_back(number_at(rows, 0), static_cast<float>(rows.getColumn(1).getDouble()));
  return curve;
}

void read_units(Core& core, Db& db, JobStatus& job) {
  const std::string& name = job.description.job;
  const auto count = [&](const char* text) { return static_cast<uint64_t>(integer(db, 0, text, name)); };
  job.units_accepted = count("SELECT count(*) FROM units WHERE job = ? AND accepted IS NOT NULL");
  job.tokens = count("SELECT sum(tokens) FROM units WHERE job = ? AND kind = 'train' AND accepted IS NOT NULL");
  job.units_rejected = count(
      "SELECT rejected + (SELECT count(*) FROM results r JOIN units u ON u.id = r.unit WHERE u.job = j.name AND "
      "r.outcome = 'accepted' AND r.pay = 'voided') FROM jobs j WHERE name = ?");
  job.units_out = static_cast<uint64_t>(integer(db, 0,
                                                "SELECT count(*) FROM leases l JOIN units u ON u.id = l.unit WHERE "
                                                "u.job = ? AND l.state = 'held' AND l.expires > ?",
                                                name, core.clock.now()));
  job.checks_done = count(
      "SELECT count(*) FROM checks c JOIN units u ON u.id = c.unit WHERE u.job = ? AND c.state IN ('passed', "
      "'failed')");
  job.checks_failed =
      count("SELECT count(*) FROM checks c JOIN units u ON u.id = c.unit WHERE u.job = ? AND c.state = 'failed'");
}

void read_pay(Db& db, JobStatus& job) {
  Statement rows =
      query(db,
            "SELECT r.account, sum(r.price) FROM results r JOIN units u ON u.id = r.unit WHERE u.job = ? AND "
            "r.pay IN ('escrowed', 'settled') GROUP BY r.account",
            job.description.job);
  while (rows.executeStep()) {
    job.earned[text_at(rows, 0)] = number_at(rows, 1);
    job.spent += number_at(rows, 1);
  }
}

void read_rate(Db& db, JobStatus& job) {
  Statement row =
      query(db,
            "SELECT sum(tokens), max(closed) - min(opened) FROM (SELECT tokens, closed, opened FROM rounds WHERE "
            "job = ? AND closed IS NOT NULL ORDER BY round DESC LIMIT ?)",
            job.description.job, rate_rounds);
  if (row.executeStep() && !row.isColumnNull(0)) {
    job.tokens_per_second =
        row.getColumn(0).getDouble() / static_cast<double>(std::max<int64_t>(1, row.getColumn(1).getInt64()));
  }
}

JobStatus read_job(Core& core, Db& db, const std::string& name) {
  JobStatus job;
  Statement row =
      query(db, "SELECT state, detail, rounds_done, created, last_round_closed, budget FROM jobs WHERE name = ?", name);
  if (!row.executeStep()) throw Failure(ExitCode::not_found, "there is no job " + name + "; see gradpool job list");
  job.description = core.job(db, name)->description;
  job.state = text_at(row, 0);
  job.detail = text_at(row, 1);
  job.rounds_done = number_at(row, 2);
  job.created = row.getColumn(3).getInt64();
  job.last_round_closed = row.getColumn(4).getInt64();
  job.budget = number_at(row, 5);
  job.validation_loss =
      read_curve(query(db,
                       "SELECT u.round, r.loss FROM units u JOIN results r ON r.id = u.accepted WHERE u.job = ? AND "
                       "u.kind = 'evaluate' AND r.outcome = 'accepted' AND r.pay <> 'voided' ORDER BY u.round",
                       name));
  job.training_loss =
      read_curve(query(db, "SELECT round, loss FROM rounds WHERE job = ? AND closed IS NOT NULL ORDER BY round", name));
  Statement weights = query(db, "SELECT digest FROM weights WHERE job = ? ORDER BY round DESC LIMIT 1", name);
  if (weights.executeStep()) job.weights_digest = protocol::to_hex(bytes_at(weights, 0));
  read_units(core, db, job);
  read_pay(db, job);
  read_rate(db, job);
  return job;
}

std::vector<JobStatus> read_jobs(Core& core, Db& db) {
  Statement rows(db, "SELECT name FROM jobs ORDER BY created, name");
  std::vector<JobStatus> jobs;
  while (rows.executeStep()) jobs.push_back(read_job(core, db, text_at(rows, 0)));
  return jobs;
}

}  // namespace

PoolStatus pool_status(Core& core) {
  return core.store.read([&](Db& db) {
    PoolStatus status;
    status.jobs = read_jobs(core, db);
    status.rigs = list_rigs(db);
    Statement traffic(db, "SELECT bytes_up, bytes_down FROM pool");
    traffic.executeStep();
    status.bytes_up = number_at(traffic, 0);
    status.bytes_down = number_at(traffic, 1);
    Statement refusals(db, "SELECT name, count FROM refusals");
    while (refusals.executeStep()) status.refusals[text_at(refusals, 0)] = number_at(refusals, 1);
    return status;
  });
}

std::vector<JobStatus> list_jobs(Core& core) {
  return core.store.read([&](Db& db) { return read_jobs(core, db); });
}

JobStatus job_status(Core& core, const std::string& job) {
  return core.store.read([&](Db& db) { return read_job(core, db, job); });
}

}  // namespace pool
