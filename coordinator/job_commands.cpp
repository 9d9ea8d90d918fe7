// gradpool job.
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "command_line.h"
#include "job_create_command.h"
#include "jobs.h"
#include "status.h"
#include "table.h"

namespace pool {

using nlohmann::json;

namespace {

struct JobArguments {
  std::string name, out;
  uint64_t add_budget = 0;
  std::optional<uint64_t> after;
  bool json = false;
};

json to_json(const JobStatus& job, uint64_t bytes_up, uint64_t bytes_down) {
  return {{"job", job.description.job},
          {"state", job.state},
          {"detail", job.detail},
          {"rounds", job.description.rounds},
          {"rounds_done", job.rounds_done},
          {"validation_loss", job.validation_loss},
          {"training_loss", job.training_loss},
          {"units_accepted", job.units_accepted},
          {"units_rejected", job.units_rejected},
          {"units_out", job.units_out},
          {"checks_done", job.checks_done},
          {"checks_failed", job.checks_failed},
          {"tokens", job.tokens},
          {"tokens_per_second", job.tokens_per_second},
          {"bytes_up", bytes_up},
          {"bytes_down", bytes_down},
          {"weights_digest", job.weights_digest},
          {"weights_round", job.rounds_done},
          {"budget", job.budget},
          {"spent", job.spent},
          {"earned", job.earned},
          {"seed", job.description.seed}};
}

std::string show_loss(const std::vector<std::pair<uint64_t, float>>& curve) {
  return curve.empty() ? "-" : std::to_string(curve.back().second);
}

void print(const JobStatus& job) {
  const protocol::JobDescription& d = job.description;
  std::cout << "job          " << d.job << ", " << job.state << (job.detail.empty() ? "" : ": " + job.detail) << '\n'
            << "rounds       " << job.rounds_done << " of " << d.rounds << ", " << d.units_per_round << " units each\n"
            << "loss         validation " << show_loss(job.validation_loss) << ", training "
            << show_loss(job.training_loss) << '\n'
            << "units        " << show_count(job.units_accepted) << " accepted, " << show_count(job.units_rejected)
            << " rejected, " << show_count(job.units_out) << " out\n"
            << "checks       " << show_count(job.checks_done) << " done, " << show_count(job.checks_failed)
            << " failed\n"
            << "tokens       " << show_count(job.tokens) << ", "
            << show_count(static_cast<uint64_t>(job.tokens_per_second)) << "/s\n"
            << "budget       " << show_count(job.budget) << " micro-credits, " << show_count(job.spent) << " spent\n"
            << "weights      " << job.weights_digest << " (round " << job.rounds_done << ")\n";
  for (const auto& [account, amount] : job.earned)
    std::cout << "earned       " << account << "  " << show_count(amount) << '\n';
}

void print_jobs(const GlobalOptions& options, bool as_json) {
  Core core = open_core(options, false);
  const PoolStatus status = pool_status(core);
  json documents = json::array();
  std::vector<std::vector<std::string>> rows;
  for (const JobStatus& job : status.jobs) {
    documents.push_back(to_json(job, status.bytes_up, status.bytes_down));
    rows.push_back({job.description.job, job.state,
                    std::to_string(job.rounds_done) + "/" + std::to_string(job.description.rounds),
                    show_loss(job.validation_loss), show_count(job.units_accepted), show_count(job.spent),
                    show_count(job.budget), show_time(job.created)});
  }
  if (as_json) return print_json(documents);
  print_table({"JOB", "STATE", "ROUNDS", "VALIDATION LOSS", "UNITS", "SPENT", "BUDGET", "CREATED"}, rows);
}

void show(const GlobalOptions& options, const JobArguments& arguments) {
  Core core = open_core(options, false);
  const JobStatus job = job_status(core, arguments.name);
  if (!arguments.json) return print(job);
  const PoolStatus status = pool_status(core);
  print_json(to_json(job, status.bytes_up, status.bytes_down));
}

// pause, resume, cancel: change the state, then say what it is.
template <class Change>
void change(const GlobalOptions& options, const JobArguments& arguments, Change&& what) {
  Core core = open_core(options, false);
  what(core);
  const JobStatus job = job_status(core, arguments.name);
  if (arguments.json) return print_json({{"job", arguments.name}, {"state", job.state}, {"detail", job.detail}});
  std::cout << "job " << arguments.name << " is " << job.state << (job.detail.empty() ? "" : ": " + job.detail) << '\n';
}

void export_command(const GlobalOptions& options, const JobArguments& arguments) {
  Core core = open_core(options, false);
  const Exported exported = export_job(core, arguments.name, arguments.out);
  const std::string digest = protocol::to_hex(exported.weights);
  if (arguments.json) {
    return print_json({{"job", arguments.name},
                       {"out", arguments.out},
                       {"weights_round", exported.round},
                       {"weights_digest", digest}});
  }
  std::cout << "weights of round " << exported.round << " of " << arguments.name << " are in " << arguments.out
            << " (config.json, model.safetensors; SHA-256 " << digest << ")\n";
}

}  // namespace

void add_job_commands(CLI::App& app, const GlobalOptions& options) {
  CLI::App* job = app.add_subcommand("job", "Models in training")->require_subcommand(1);
  add_job_create_command(*job, options);
  const auto arguments = std::make_shared<JobArguments>();
  const auto add = [&](const char* name, const char* help, bool named, std::function<void()> run) {
    CLI::App* command = job->add_subcommand(name, help);
    if (named) command->add_option("NAME", arguments->name)->required();
    command->add_flag("--json", arguments->json);
    command->callback(std::move(run));
    return command;
  };
  add("list", "List jobs", false, [&options, arguments] { print_jobs(options, arguments->json); });
  add("show", "Show how a job stands", true, [&options, arguments] { show(options, *arguments); });
  add("pause", "Hand out no more units", true, [&options, arguments] {
    change(options, *arguments, [&](Core& core) { pause_job(core, arguments->name, arguments->after); });
  })->add_option("--after", arguments->after, "Only once so many rounds are done, checked, and their loss is known");
  add("resume", "Go on after a pause, or with more money", true, [&options, arguments] {
    change(options, *arguments, [&](Core& core) { resume_job(core, arguments->name, arguments->add_budget); });
  })->add_option("--add-budget", arguments->add_budget, "Micro-credits to add to the budget");
  add("cancel", "End a job; accepted results are paid, the rest of the budget comes back", true,
      [&options, arguments] { change(options, *arguments, [&](Core& core) { cancel_job(core, arguments->name); }); });
  add("export", "Write config.json and model.safetensors of the newest weights", true,
      [&options, arguments] { export_command(options, *arguments); })
      ->add_option("--out", arguments->out, "Folder")
      ->required();
}

}  // namespace pool
