#include "rounds.h"

#include "aggregate.h"
#include "checks.h"
#include "kernels/files.h"
#include "ledger.h"
#include "protocol/blob.h"
#include "retention.h"
#include "settlements.h"
#include "units.h"

namespace pool {
namespace {

struct Accepted {
  int64_t id = 0;
  protocol::Digest digest{};
  float norm = 0, loss = 0;
  uint64_t tokens = 0;
  bool operator==(const Accepted&) const = default;
};

struct OuterState {
  std::optional<protocol::Digest> momentum, variance, residual;
};

struct OpenRound {
  uint64_t round = 0;
  std::vector<Accepted> results;  // of the train units, upward
  protocol::Digest weights{};
  OuterState outer;
};

// Micro-credits that work already handed out or due may still cost.
int64_t promised(Db& db, const std::string& job) {
  return integer(db, 0, "SELECT sum(price) FROM units WHERE job = ? AND accepted IS NULL", job) +
         integer(db, 0,
                 "SELECT sum(u.price) FROM checks c CROSS JOIN units u ON u.id = c.unit WHERE c.state = 'open' AND "
                 "u.job = ?",
                 job);
}

// The results of the open round, where all are there.
std::optional<OpenRound> read_finished_round(Db& db, const Job& job) {
  const std::optional<uint64_t> round = open_round(db, job.name());
  if (!round) return std::nullopt;
  OpenRound open;
  open.round = *round;
  Statement rows =
      query(db,
            "SELECT r.id, r.digest, r.norm, r.loss, r.tokens FROM units u JOIN results r ON r.id = u.accepted "
            "WHERE u.job = ? AND u.round = ? AND u.kind = 'train' ORDER BY u.number",
            job.name(), open.round);
  while (rows.executeStep()) {
    open.results.push_back({rows.getColumn(0).getInt64(), bytes_at(rows, 1),
                            static_cast<float>(rows.getColumn(2).getDouble()),
                            static_cast<float>(rows.getColumn(3).getDouble()), number_at(rows, 4)});
  }
  if (open.results.size() != job.description.units_per_round) return std::nullopt;
  Statement weights = query(db, "SELECT digest FROM weights WHERE job = ? AND round = ?", job.name(), open.round);
  weights.executeStep();
  open.weights = bytes_at(weights, 0);
  Statement outer = query(db, "SELECT momentum, variance, residual FROM outer_states WHERE job = ?", job.name());
  if (outer.executeStep()) {
    open.outer.momentum = bytes_at(outer, 0);
    if (!outer.isColumnNull(1)) open.outer.variance = bytes_at(outer, 1);
    open.outer.residual = bytes_at(outer, 2);
  }
  return open;
}

RoundOutputs compute(const Core& core, const Job& job, const OpenRound& open) {
  std::vector<MappedFile> files;
  RoundInputs inputs;
  for (const Accepted& result : open.results) {
    files.push_back(core.store.read_blob(result.digest));
    inputs.units.push_back({files.back().bytes().subspan(protocol::blob_header_bytes), result.norm});
  }
  const auto state = [&](const std::optional<protocol::Digest>& digest) {
    if (!digest) return std::span<const float>();
    files.push_back(core.store.read_blob(*digest));
    return files.back().floats();
  };
  inputs.momentum = state(open.outer.momentum);
  inputs.variance = state(open.outer.variance);
  inputs.residual = state(open.outer.residual);
  files.push_back(core.store.read_blob(open.weights));
  inputs.weights = files.back().floats(kernels::safetensors_header(job.model).size());
  const auto ops = kernels::make_cpu_ops(1);
  return aggregate(job, open.round, inputs, *ops, [&] { return core.store.temporary_path(); });
}

protocol::RoundRecord make_record(Core& core, Db& db, const Job& job, const OpenRound& open,
                                  const RoundOutputs& outputs) {
  protocol::RoundRecord record;
  record.pool_id = core.pool_id;
  record.job = job.name();
  record.round = open.round;
  record.job_digest = job.digest;
  if (open.round > 0) {
    Statement row = query(db, "SELECT digest FROM rounds WHERE job = ? AND round = ?", job.name(), open.round - 1);
    row.executeStep();
    record.previous = bytes_at(row, 0);
  }
  std::vector<protocol::Digest> results;
  for (const Accepted& result : open.results) {
    results.push_back(result.digest);
    record.tokens += result.tokens;
  }
  record.units_root = protocol::merkle_root(results);
  record.weights = outputs.weights.digest();
  record.state = outputs.state;
  record.update = {outputs.update.digest(), outputs.update.bytes()};
  record.checkpoint = {open.round + 1, {outputs.weights.digest(), outputs.weights.bytes()}};
  record.time = core.clock.now();
  return record;
}

void publish_round(Core& core, Db& db, const Job& job, const OpenRound& open, RoundOutputs& outputs) {
  const std::string& name = job.name();
  const int64_t now = core.clock.now();
  const protocol::RoundRecord record = make_record(core, db, job, open, outputs);
  const protocol::SignedDocument document = core.sign(protocol::to_canonical(record));
  double loss = 0;
  for (const Accepted& result : open.results) loss += result.loss;
  loss /= static_cast<double>(open.results.size());

  for (StagedFile* file : {&outputs.weights, &outputs.update, &outputs.momentum, &outputs.residual})
    core.store.publish(db, *file);
  std::optional<protocol::Digest> variance;
  if (outputs.variance) {
    core.store.publish(db, *outputs.variance);
    variance = outputs.variance->digest();
  }
  execute(db, "INSERT INTO weights (job, round, digest, bytes) VALUES (?, ?, ?, ?)", name, open.round + 1,
          outputs.weights.digest(), outputs.weights.bytes());
  execute(db, "INSERT INTO updates (job, round, digest, bytes) VALUES (?, ?, ?, ?)", name, open.round,
          outputs.update.digest(), outputs.update.bytes());
  execute(db, "INSERT OR REPLACE INTO outer_states VALUES (?, ?, ?, ?)", name, outputs.momentum.digest(), variance,
          outputs.residual.digest());
  execute(db,
          "UPDATE rounds SET closed = ?, tokens = ?, loss = ?, document = ?, signature = ?, digest = ? WHERE job = ? "
          "AND round = ?",
          now, record.tokens, loss, document.document, document.signature, protocol::sha256(document.document), name,
          open.round);
  execute(db, "UPDATE jobs SET rounds_done = ?, last_round_closed = ? WHERE name = ?", open.round + 1, now, name);
  if (open.round + 1 > settlement_rounds) settle_results(core, db, name, open.round - settlement_rounds);
  retire_files(db, name, open.round);
  open_next_round(core, db, job);
}

}  // namespace

std::optional<uint64_t> open_round(Db& db, const std::string& job) {
  Statement row =
      query(db,
            "SELECT round FROM rounds WHERE job = ?1 AND round = (SELECT max(round) FROM rounds WHERE job = "
            "?1) AND closed IS NULL",
            job);
  if (!row.executeStep()) return std::nullopt;
  return number_at(row, 0);
}

uint64_t rounds_wanted(Db& db, const Job& job) {
  const uint64_t rounds = job.description.rounds;
  return static_cast<uint64_t>(
      integer(db, 0, "SELECT coalesce(min(pause_after, ?), ?) FROM jobs WHERE name = ?", rounds, rounds, job.name()));
}

bool open_next_round(Core& core, Db& db, const Job& job) {
  const protocol::JobDescription& d = job.description;
  Statement row = query(db, "SELECT state, rounds_done FROM jobs WHERE name = ?", d.job);
  row.executeStep();
  const uint64_t round = number_at(row, 1);
  if (text_at(row, 0) != "running" || open_round(db, d.job)) return false;
  if (round >= rounds_wanted(db, job)) {
    const std::string last = protocol::unit_name(d.job, round, protocol::UnitKind::evaluate, 0);
    if (find_unit(db, last)) return false;
    insert_unit(db, job, round, protocol::UnitKind::evaluate, 0);
    return true;
  }
  const bool evaluates = round % d.evaluate_every == 0 &&  // a pause may have asked for it already
                         !find_unit(db, protocol::unit_name(d.job, round, protocol::UnitKind::evaluate, 0));
  const auto cost = static_cast<int64_t>(d.units_per_round * d.price_train + (evaluates ? d.price_evaluate : 0));
  const int64_t free = ledger::balance(db, ledger::job_account(d.job)) - promised(db, d.job);
  if (free < cost) {
    execute(db, "UPDATE jobs SET state = 'unfunded', detail = ? WHERE name = ?",
            "round " + std::to_string(round) + " costs " + std::to_string(cost) + " micro-credits and " +
                std::to_string(std::max<int64_t>(0, free)) + " are left; add money with gradpool job resume " + d.job +
                " --add-budget N",
            d.job);
    return true;
  }
  execute(db, "INSERT INTO rounds (job, round, opened) VALUES (?, ?, ?)", d.job, round, core.clock.now());
  for (uint64_t i = 0; i < d.units_per_round; ++i) insert_unit(db, job, round, protocol::UnitKind::train, i);
  if (evaluates) insert_unit(db, job, round, protocol::UnitKind::evaluate, 0);
  return true;
}

bool close_round(Core& core, const std::string& name) {
  std::shared_ptr<const Job> job;
  const std::optional<OpenRound> open = core.store.read([&](Db& db) {
    job = core.job(db, name);
    return read_finished_round(db, *job);
  });
  if (!open) return false;
  try {
    RoundOutputs outputs = compute(core, *job, *open);
    core.store.write([&](Db& db) {
      const std::optional<OpenRound> current =
          read_finished_round(db, *job);  // a bar may have voided a result meanwhile
      if (current && current->round == open->round && current->results == open->results)
        publish_round(core, db, *job, *open, outputs);
    });
  } catch (const NotFinite& error) {
    core.store.write([&](Db& db) {
      execute(db,
              "UPDATE jobs SET state = 'diverged', detail = ? WHERE name = ? AND state IN ('running', 'paused', "
              "'unfunded')",  // not one that was cancelled meanwhile
              std::string(error.what()) + "; try a lower learning rate", name);
    });
  }
  core.store.collect_garbage();
  return true;
}

void finish_job(Core& core, Db& db, const std::string& job, const std::string& state, const std::string& detail) {
  const int64_t now = core.clock.now();
  end_checks(core, db, job);
  settle_results(core, db, job, INT64_MAX);
  const std::string account = ledger::job_account(job);
  ledger::move(db, "finish:" + job, now, account, ledger::treasury,
               static_cast<uint64_t>(std::max<int64_t>(0, ledger::balance(db, account))));
  execute(db, "UPDATE jobs SET state = ?, detail = ? WHERE name = ?", state, detail, job);
}

bool complete_if_done(Core& core, Db& db, const Job& job) {
  const std::string& name = job.name();
  const auto rounds_done =
      integer(db, 0, "SELECT rounds_done FROM jobs WHERE name = ? AND state = 'running' AND rounds_done >= ?", name,
              rounds_wanted(db, job));
  if (rounds_done == 0 || open_round(db, name) ||
      !find_unit(db, protocol::unit_name(name, static_cast<uint64_t>(rounds_done), protocol::UnitKind::evaluate, 0)) ||
      integer(db, 0, "SELECT count(*) FROM units WHERE job = ? AND accepted IS NULL", name) > 0 ||
      integer(db, 0,
              "SELECT count(*) FROM checks c CROSS JOIN units u ON u.id = c.unit WHERE c.state = 'open' AND u.job = ?",
              name) > 0) {
    return false;
  }
  if (static_cast<uint64_t>(rounds_done) == job.description.rounds) {
    finish_job(core, db, name, "completed", "");
  } else {
    execute(db, "UPDATE jobs SET state = 'paused', detail = '', pause_after = NULL WHERE name = ?", name);
  }
  return true;
}

}  // namespace pool
