#include "core.h"

#include <bit>

#include "errors.h"
#include "kernels/files.h"
#include "kernels/training.h"

namespace pool {
namespace {

// A folder without a database is new and gets a key; one that has lost its key cannot sign any more.
protocol::PrivateKey load_or_make_key(const std::filesystem::path& folder, bool is_new) {
  const std::filesystem::path file = folder / "pool.key";
  try {
    if (is_new && !std::filesystem::exists(file)) {
      const std::filesystem::path fresh = folder / "pool.key.new";  // the lasting name never shows half a key
      std::filesystem::remove(fresh);
      protocol::PrivateKey::generate().save_new(fresh);
      durable_rename(fresh, file);
    }
    return protocol::PrivateKey::load(file);
  } catch (const std::exception& error) {
    throw Failure(ExitCode::store, error.what());
  }
}

// What a unit needs on a rig: the trainer's buffers, the weights, and the sums of the lane tree or the decoded result.
uint64_t memory_of(const Job& job, kernels::Ops& ops, bool train) {
  const protocol::JobDescription& d = job.description;
  const auto purpose = !train    ? kernels::Trainer::Purpose::evaluate
                       : d.inner ? kernels::Trainer::Purpose::local_steps
                                 : kernels::Trainer::Purpose::block_gradients;
  const kernels::Trainer::Settings settings(purpose, false, kernels::profile_named(d.profile).value());
  const size_t batch = train ? d.batch : d.evaluate_rows;
  const uint64_t vectors = train ? 2 + std::bit_width(d.lanes_per_unit) : 1;
  return kernels::Trainer::planned_bytes(job.model, batch, d.context, ops, settings) + vectors * 4 * d.parameters;
}

std::shared_ptr<const Job> read_job(Db& db, const std::string& name) {
  Statement row = query(db, "SELECT document, digest FROM jobs WHERE name = ?", name);
  if (!row.executeStep()) throw protocol::Error(protocol::ErrorCode::not_found, "there is no job " + name);
  auto job = std::make_shared<Job>();
  job->description = protocol::job_from_canonical(text_at(row, 0));
  job->digest = bytes_at(row, 1);
  job->model = kernels::parse_model_config(job->description.model);
  job->parameters = kernels::parameters_of(job->model);
  job->flops_per_token = kernels::training_flops_per_token(job->model, job->description.context);
  const auto ops = kernels::make_cpu_ops(1);
  job->train_memory = memory_of(*job, *ops, true);
  job->evaluate_memory = memory_of(*job, *ops, false);
  return job;
}

}  // namespace

Failure no_pool_in(const std::filesystem::path& folder) {
  return {ExitCode::store, "there is no pool in " + folder.string() +
                               "; give its folder with --data or GRADPOOL_DATA, or begin one with gradpool account "
                               "create"};
}

Core::Core(const std::filesystem::path& folder, const Clock& the_clock, bool make)
    : store(folder,
            [&](Db& db) {
              if (!make) throw no_pool_in(folder);  // the database is what a restore left that died at its beginning
              const protocol::PublicKey made = load_or_make_key(folder, true).public_key();
              execute(db, "INSERT INTO pool (pool_id, created) VALUES (?, ?)", protocol::sha256(made), the_clock.now());
            }),
      clock(the_clock),
      key(load_or_make_key(folder, false)),
      pool_id(protocol::sha256(key.public_key())) {
  bool is_backup = false;
  const protocol::Digest stored = store.read([&](Db& db) {
    Statement row(db, "SELECT pool_id, restored IS NULL FROM pool");
    if (!row.executeStep()) {
      throw Failure(ExitCode::store,
                    folder.string() + " is what an interrupted backup or restoration left; remove it and repeat that");
    }
    is_backup = row.getColumn(1).getInt() != 0;
    return bytes_at(row, 0);
  });
  if (stored != pool_id) {
    throw Failure(ExitCode::store,
                  (folder / "pool.key").string() + " is not the key of this store; restore the right one");
  }
  if (is_backup) {
    // A lease that was out may have been submitted in the lost time; its attempt must not be given again.
    store.write([&](Db& db) {
      execute(db, "UPDATE leases SET state = 'released', ended = ? WHERE state = 'held'", clock.now());
      execute(db, "UPDATE pool SET restored = ?", clock.now());
    });
  }
}

std::shared_ptr<const Job> Core::job(Db& db, const std::string& name) const {
  {
    const std::lock_guard<std::mutex> lock(jobs_mutex_);
    if (const auto found = jobs_.find(name); found != jobs_.end()) return found->second;
  }
  std::shared_ptr<const Job> job = read_job(db, name);
  const std::lock_guard<std::mutex> lock(jobs_mutex_);
  return jobs_.emplace(name, std::move(job)).first->second;
}

}  // namespace pool
