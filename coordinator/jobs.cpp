#include "jobs.h"

#include <algorithm>
#include <span>

#include "errors.h"
#include "kernels/files.h"
#include "ledger.h"
#include "rounds.h"

namespace pool {
namespace {

std::string require_state(Db& db, const std::string& job, std::initializer_list<const char*> allowed,
                          const char* action) {
  Statement row = query(db, "SELECT state FROM jobs WHERE name = ?", job);
  if (!row.executeStep()) throw Failure(ExitCode::not_found, "there is no job " + job + "; see gradpool job list");
  const std::string state = text_at(row, 0);
  if (std::find(allowed.begin(), allowed.end(), state) == allowed.end()) {
    throw Failure(ExitCode::refused, "job " + job + " is " + state + " and cannot be " + action);
  }
  return state;
}

void set_state(Db& db, const std::string& job, const char* state) {
  execute(db, "UPDATE jobs SET state = ?, detail = '', pause_after = NULL WHERE name = ?", state, job);
}

void write_file(std::span<const uint8_t> content, const std::filesystem::path& to) {
  const std::filesystem::path partial = to.string() + ".partial";
  std::filesystem::remove(partial);
  StagedWriter writer(partial);
  writer.write(content);
  StagedFile file = writer.finish();
  durable_rename(file.path(), to);
  file.release();
}

}  // namespace

void pause_job(Core& core, const std::string& job, std::optional<uint64_t> after) {
  core.store.write([&](Db& db) {
    require_state(db, job, {"running", "unfunded"}, "paused");
    if (!after) return set_state(db, job, "paused");
    const uint64_t rounds = core.job(db, job)->description.rounds;
    if (*after > rounds) {
      throw Failure(ExitCode::bad_input, "--after " + std::to_string(*after) + ": job " + job + " has only " +
                                             std::to_string(rounds) + " rounds");
    }
    execute(db, "UPDATE jobs SET pause_after = ?, detail = ? WHERE name = ?", *after,
            "pauses after round " + std::to_string(*after), job);
    open_next_round(core, db, *core.job(db, job));  // the evaluation of its weights, where no round is open
  });
}

void resume_job(Core& core, const std::string& job, uint64_t add_budget) {
  if (add_budget > max_budget) throw Failure(ExitCode::bad_input, "--add-budget: at most 10^15 micro-credits");
  core.store.write([&](Db& db) {
    const std::string state = require_state(db, job, {"running", "paused", "unfunded"}, "resumed");
    const bool to_pause = integer(db, 0, "SELECT pause_after IS NOT NULL FROM jobs WHERE name = ?", job) != 0;
    if (state == "running" && add_budget == 0 && !to_pause)
      throw Failure(ExitCode::refused, "job " + job + " is running already");
    const int64_t funded = integer(db, 0, "SELECT budget FROM jobs WHERE name = ?", job);
    ledger::move(db, "fund:" + job + ":" + protocol::random_hex16(), core.clock.now(), ledger::treasury,
                 ledger::job_account(job), add_budget);
    execute(db, "UPDATE jobs SET budget = ? WHERE name = ?", funded + static_cast<int64_t>(add_budget), job);
    set_state(db, job, "running");
    open_next_round(core, db, *core.job(db, job));
  });
}

void cancel_job(Core& core, const std::string& job) {
  core.store.write([&](Db& db) {
    require_state(db, job, {"running", "paused", "unfunded", "diverged"}, "cancelled");
    finish_job(core, db, job, "cancelled", "by its owner");
  });
}

Exported export_job(Core& core, const std::string& name, const std::filesystem::path& out) {
  make_directories(out);
  Exported exported;
  kernels::ModelConfig model;
  struct File {
    std::string name;
    protocol::Digest digest{};
    MappedFile content;
  };
  std::vector<File> files;
  const auto add = [&](const std::string& file, const protocol::Digest& digest) {
    files.push_back({file, digest, MappedFile(core.store.blob_path(digest))});
  };
  // Opened while collection has to wait, and safe from it then.
  core.store.write([&](Db& db) {
    require_state(db, name, {"running", "paused", "unfunded", "diverged", "completed", "cancelled"}, "exported");
    model = core.job(db, name)->model;
    Statement row = query(db, "SELECT round, digest FROM weights WHERE job = ? ORDER BY round DESC LIMIT 1", name);
    row.executeStep();
    exported = {number_at(row, 0), bytes_at(row, 1)};
    add("model.safetensors", exported.weights);
    Statement rows = query(db, "SELECT name, digest FROM job_files WHERE job = ?", name);
    while (rows.executeStep()) add(text_at(rows, 0), bytes_at(rows, 1));
  });
  for (const File& file : files) require_whole(core.store.folder(), file.digest, file.content);
  const std::string config = kernels::to_json(model).dump(2) + "\n";
  write_file({reinterpret_cast<const uint8_t*>(config.data()), config.size()}, out / "config.json");
  for (const File& file : files) write_file(file.content.bytes(), out / file.name);
  return exported;
}

}  // namespace pool
