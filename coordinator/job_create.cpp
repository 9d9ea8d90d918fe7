#include "job_create.h"

#include <algorithm>
#include <cmath>

#include "datasets.h"
#include "errors.h"
#include "jobs.h"
#include "kernels/files.h"
#include "kernels/training.h"
#include "ledger.h"
#include "protocol/blob.h"
#include "protocol/json.h"
#include "protocol/plan.h"
#include "rounds.h"
#include "weights.h"

namespace pool {
namespace {

// What the first results of new rigs may cost in checks, docs/security.md: eight rigs, three results each.
constexpr uint64_t new_rig_checks = 24;

[[noreturn]] void refuse_job(const std::string& message) { throw Failure(ExitCode::bad_input, message); }

void require(bool condition, const std::string& message) {
  if (!condition) refuse_job(message);
}

void require_settings(const protocol::JobDescription& d) {
  require(protocol::is_job_name(d.job),
          "\"" + d.job +
              "\" is not a job name: 1 to 32 lower-case letters, digits or '-', beginning "
              "with a letter or digit");
  struct Count {
    const char* option;
    uint64_t value, most;
  };
  for (const auto& [option, value, most] : {Count{"--rounds", d.rounds, protocol::max_rounds},
                                            {"--units", d.units_per_round, protocol::max_units_per_round},
                                            {"--lanes", d.lanes_per_unit, protocol::max_lanes},
                                            {"--steps", d.steps, protocol::max_steps},
                                            {"--batch", d.batch, protocol::max_batch},
                                            {"--context", d.context, protocol::max_context},
                                            {"--evaluate-every", d.evaluate_every, protocol::max_rounds},
                                            {"--evaluate-rows", d.evaluate_rows, protocol::max_batch}}) {
    require(value >= 1 && value <= most,
            std::string(option) + " must be at least 1 and at most " + std::to_string(most));
  }
  require(kernels::profile_named(d.profile).has_value(),
          "--profile must be one of " + kernels::profile_names() + ", not \"" + d.profile + "\"");
  const std::vector<std::string> codecs = protocol::codec_names();
  require(std::ranges::count(codecs, d.codec) == 1, "--codec must be fp32, int4 or int8, not \"" + d.codec + "\"");
  require(d.outer.name == "nesterov" || d.outer.name == "adamw",
          "--outer must be nesterov or adamw, not \"" + d.outer.name + "\"");
  require(d.outer.name != "adamw" || d.steps == 1,
          "--outer adamw works on gradients and needs --steps 1, not " + std::to_string(d.steps));
  require(std::isfinite(d.clip_norm) && d.clip_norm >= 0, "--clip-norm must be 0 (no limit) or positive");
  require(d.check_share_ppm <= 1000000, "--check-share must lie between 0 and 1");
}

// A lease is one message, which names every step and shard, and each update that a late rig lacks.
void require_leases_fit(const protocol::JobDescription& d) {
  for (const auto kind : {protocol::UnitKind::train, protocol::UnitKind::evaluate}) {
    protocol::Lease lease;
    lease.unit = protocol::plan_unit(d, 0, kind, 0);
    lease.unit.weights.updates.resize(std::min(max_updates, d.rounds));
    const size_t bytes = protocol::to_json(protocol::LeaseAnswer{lease, {}}).dump().size();
    const size_t all = bytes + bytes / 8;  // numbers have more digits in later rounds
    require(all <= protocol::max_json_bytes,
            std::string("a lease of a ") + protocol::to_string(kind) + " unit would be " + std::to_string(all) +
                " bytes long, and at most " + std::to_string(protocol::max_json_bytes) +
                " are allowed; use fewer --steps or --lanes, or a shorter validation split");
  }
}

kernels::ModelConfig read_config(const JobRequest& request) {
  require(request.config.has_value() != request.model.has_value(),
          "a job needs either --config CONFIG.JSON or --model DIR");
  try {
    return request.model ? kernels::read_model_config(*request.model) : kernels::read_config_file(*request.config);
  } catch (const std::runtime_error& error) {
    refuse_job(error.what());
  }
}

void require_fitting_data(const protocol::JobDescription& d, const kernels::ModelConfig& model,
                          const Dataset& dataset) {
  require(d.context <= model.positions, "--context " + std::to_string(d.context) + " is beyond the model's " +
                                            model.positions_key() + " of " + std::to_string(model.positions));
  require(dataset.vocabulary <= model.vocabulary, "the model's vocab_size of " + std::to_string(model.vocabulary) +
                                                      " is too small for dataset " + dataset.name +
                                                      ", whose tokens need " + std::to_string(dataset.vocabulary));
  for (const auto* shards : {&dataset.train, &dataset.validation}) {
    for (const protocol::ShardReference& shard : *shards) {
      require(shard.tokens > d.context + 1, "--context " + std::to_string(d.context) + " is too long for dataset " +
                                                dataset.name + ", which has a shard of " +
                                                std::to_string(shard.tokens) + " tokens");
    }
  }
}

// Sums of an int8 profile have a longest length.
void require_computable(const protocol::JobDescription& d, const kernels::ModelConfig& model) {
  try {
    kernels::Trainer::planned_bytes(
        model, d.batch, d.context, *kernels::make_reference_ops(),
        {kernels::Trainer::Purpose::gradient, false, kernels::profile_named(d.profile).value()});
  } catch (const std::invalid_argument& error) {
    refuse_job(error.what());
  }
}

void set_prices(protocol::JobDescription& d, const kernels::ModelConfig& model) {
  const auto flops_per_token = static_cast<uint64_t>(6 * d.parameters + 6 * model.layers * d.context * model.channels);
  const uint64_t train = protocol::plan_unit(d, 0, protocol::UnitKind::train, 0).tokens;
  const uint64_t evaluate = protocol::plan_unit(d, 0, protocol::UnitKind::evaluate, 0).tokens;
  d.price_train = protocol::price_of(train, flops_per_token, d.price);
  d.price_evaluate = (protocol::price_of(evaluate, flops_per_token, d.price) + 2) / 3;
}

JobEstimate estimate(const protocol::JobDescription& d, const kernels::ModelConfig& model,
                     const std::optional<uint64_t>& budget) {
  JobEstimate e;
  const double evaluations = std::ceil(static_cast<double>(d.rounds) / static_cast<double>(d.evaluate_every)) + 1;
  const double units = static_cast<double>(d.rounds) * static_cast<double>(d.units_per_round);
  const double work = units * static_cast<double>(d.price_train) + evaluations * static_cast<double>(d.price_evaluate);
  require(work < static_cast<double>(max_budget),
          "the job would cost more than 10^15 micro-credits; lower --price, --rounds or the units' size");
  const double share = static_cast<double>(d.check_share_ppm) * 1e-6;
  const double new_rigs = share > 0 ? std::min(work, static_cast<double>(new_rig_checks * d.price_train)) : 0;
  // Units are drawn independently: four standard deviations more, or half of all jobs would stop for want of money.
  const auto square = [](uint64_t price) { return static_cast<double>(price) * static_cast<double>(price); };
  const double variance =
      share * (1 - share) * (units * square(d.price_train) + evaluations * square(d.price_evaluate));
  require(budget.value_or(0) <= max_budget, "--budget must be at most 10^15 micro-credits");
  e.work = static_cast<uint64_t>(work);
  e.checks = static_cast<uint64_t>(std::ceil(work * share + new_rigs + 4 * std::sqrt(variance)));
  e.budget = budget.value_or(e.work + e.checks);

  const double flops_per_token = kernels::training_flops_per_token(model, d.context);
  const auto unit_tokens = static_cast<double>(protocol::plan_unit(d, 0, protocol::UnitKind::train, 0).tokens);
  e.flops = units * unit_tokens * flops_per_token;
  e.seconds = e.flops / static_cast<double>(d.units_per_round) / assumed_flops;
  const uint64_t encoded =
      protocol::blob_header_bytes + protocol::payload_bytes(protocol::codec_from_name(d.codec), d.parameters);
  e.bytes_up = d.units_per_round * encoded;
  e.bytes_down = encoded;
  e.first_bytes_down = d.initial_weights.bytes + d.lanes_per_unit * d.train[0].blob.bytes;
  return e;
}

StagedFile write_initial_weights(const Core& core, const JobRequest& request, const kernels::ModelConfig& model) {
  std::vector<float> weights(kernels::parameter_count(model));
  if (request.model) {
    try {
      weights = kernels::read_weights(*request.model, model);
    } catch (const std::runtime_error& error) {
      refuse_job(error.what());
    }
  } else {
    kernels::initialise_weights(model, request.description.seed, weights.data());
  }
  const auto bad = std::find_if(weights.begin(), weights.end(), [](float w) { return !std::isfinite(w); });
  require(bad == weights.end(), "the weights of the model are not all finite");
  const std::string header = kernels::safetensors_header(model);
  StagedWriter writer(core.store.temporary_path());
  writer.write(std::span(reinterpret_cast<const uint8_t*>(header.data()), header.size()));
  writer.write(std::span<const float>(weights));
  return writer.finish();
}

// Tokenizer and the like: what transformers saves beside config and weights.
std::vector<std::pair<std::string, StagedFile>> copy_companions(const Core& core, const JobRequest& request) {
  std::vector<std::pair<std::string, StagedFile>> files;
  if (!request.model) return files;
  for (const char* name :
       {"added_tokens.json", "chat_template.jinja", "generation_config.json", "merges.txt", "special_tokens_map.json",
        "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json"}) {
    const std::filesystem::path path = *request.model / name;
    if (!std::filesystem::is_regular_file(path)) continue;
    StagedWriter writer(core.store.temporary_path());
    writer.write(MappedFile(path).bytes());
    files.emplace_back(name, writer.finish());
  }
  return files;
}

void require_new_job(Db& db, const std::string& name) {
  if (integer(db, 0, "SELECT count(*) FROM jobs WHERE name = ?", name)) {
    throw Failure(ExitCode::refused, "the job " + name + " exists already (names of ended jobs are not used again)");
  }
}

}  // namespace

CreatedJob create_job(Core& core, const JobRequest& request, bool dry_run) {
  protocol::JobDescription d = request.description;
  require_settings(d);
  const Dataset dataset = core.store.read([&](Db& db) {
    require_new_job(db, d.job);
    return read_dataset(db, request.dataset);
  });
  const kernels::ModelConfig model = read_config(request);
  require_fitting_data(d, model, dataset);
  require_computable(d, model);
  d.pool_id = core.pool_id;
  d.profile = kernels::name_of(*kernels::profile_named(d.profile));
  d.model = kernels::to_json(model);
  d.parameters = kernels::parameter_count(model);
  d.train = dataset.train;
  d.validation = dataset.validation;
  if (d.steps == 1) d.inner.reset();
  StagedFile weights = write_initial_weights(core, request, model);
  d.initial_weights = {weights.digest(), weights.bytes()};
  set_prices(d, model);
  const JobEstimate cost = estimate(d, model, request.budget);

  const std::string document = protocol::to_canonical(d);
  try {
    protocol::job_from_canonical(document);  // the bounds that rigs hold it to
  } catch (const protocol::Error& error) {
    refuse_job(std::string("rigs would refuse this job: ") + error.what());
  }
  require_leases_fit(d);
  if (dry_run) return {d, cost};

  auto companions = copy_companions(core, request);
  const protocol::SignedDocument signed_document = core.sign(document);
  core.store.write([&](Db& db) {
    require_new_job(db, d.job);
    const int64_t now = core.clock.now();
    execute(db,
            "INSERT INTO jobs (name, document, signature, digest, state, budget, created) VALUES (?, ?, ?, ?, "
            "'running', ?, ?)",
            d.job, document, signed_document.signature, protocol::sha256(document), cost.budget, now);
    execute(db, "INSERT INTO weights (job, round, digest, bytes) VALUES (?, 0, ?, ?)", d.job, weights.digest(),
            weights.bytes());
    core.store.publish(db, weights);
    for (auto& [name, file] : companions) {
      execute(db, "INSERT INTO job_files VALUES (?, ?, ?)", d.job, name, file.digest());
      core.store.publish(db, file);
    }
    ledger::move(db, "fund:" + d.job, now, ledger::treasury, ledger::job_account(d.job), cost.budget);
    open_next_round(core, db, *core.job(db, d.job));
  });
  return {d, cost};
}

}  // namespace pool
