#include "job_create_command.h"

#include <cmath>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "errors.h"
#include "job_create.h"
#include "kernels/profile.h"
#include "table.h"

namespace pool {

using nlohmann::json;

namespace {

struct CreateArguments {
  JobRequest request;
  protocol::InnerSettings inner;
  std::string config, model;
  double check_share = 0.03;
  std::optional<double> outer_lr;
  bool dry_run = false, json = false;
};

json to_json(const CreatedJob& created, bool dry_run) {
  const protocol::JobDescription& d = created.description;
  const JobEstimate& e = created.estimate;
  return {{"job", d.job},
          {"created", !dry_run},
          {"parameters", d.parameters},
          {"price_train", d.price_train},
          {"price_evaluate", d.price_evaluate},
          {"estimate",
           {{"work", e.work},
            {"checks", e.checks},
            {"flops", e.flops},
            {"seconds", e.seconds},
            {"assumed_flops", assumed_flops},
            {"bytes_up_per_round", e.bytes_up},
            {"bytes_down_per_round", e.bytes_down},
            {"bytes_down_at_start", e.first_bytes_down}}},
          {"budget", e.budget},
          {"weights", protocol::to_hex(d.initial_weights.digest)},
          {"seed", d.seed}};
}

void print(const CreatedJob& created, bool dry_run) {
  const protocol::JobDescription& d = created.description;
  const JobEstimate& e = created.estimate;
  std::cout << (dry_run ? "job " + d.job + " would be created" : "job " + d.job + " created") << ": "
            << show_count(d.parameters) << " parameters, " << d.rounds << " rounds of " << d.units_per_round
            << " units\n"
            << "  cost      " << show_count(e.work) << " micro-credits of work and up to " << show_count(e.checks)
            << " of checks; budget " << show_count(e.budget) << " (what is left comes back)\n"
            << "  time      about " << show_seconds(e.seconds) << " if " << d.units_per_round << " rigs compute "
            << assumed_flops / 1e9 << " GFLOP/s each\n"
            << "  transfer  a round: " << show_bytes(e.bytes_up) << " up in all, " << show_bytes(e.bytes_down)
            << " down for each rig; a rig's start: " << show_bytes(e.first_bytes_down) << " down\n"
            << "  note      weights and data are public: every enrolled rig can read them\n";
  if (d.check_share_ppm == 0) std::cout << "  warning   --check-share 0: no result is checked by repetition\n";
  if (e.budget < e.work)
    std::cout << "  warning   the budget does not cover all rounds; the job will stop as unfunded\n";
}

void create(const GlobalOptions& options, CreateArguments& arguments) {
  protocol::JobDescription& d = arguments.request.description;
  if (!(arguments.check_share >= 0 && arguments.check_share <= 1)) {
    throw Failure(ExitCode::bad_input, "--check-share must lie between 0 and 1");
  }
  d.check_share_ppm = static_cast<uint64_t>(std::llround(arguments.check_share * 1e6));
  d.inner = arguments.inner;
  d.outer.lr = arguments.outer_lr.value_or(d.outer.name == "adamw" ? 1e-3 : 0.7);
  if (!arguments.config.empty()) arguments.request.config = arguments.config;
  if (!arguments.model.empty()) arguments.request.model = arguments.model;
  Core core = open_core(options, false);
  const CreatedJob created = create_job(core, arguments.request, arguments.dry_run);
  if (arguments.json) return print_json(to_json(created, arguments.dry_run));
  print(created, arguments.dry_run);
}

void add_plan_options(CLI::App& command, protocol::JobDescription& d) {
  d.units_per_round = 2;
  d.lanes_per_unit = 1;
  d.steps = 20;
  d.batch = 12;
  d.context = 64;
  d.profile = "exact-fp32";
  d.codec = "int4";
  d.evaluate_every = 5;
  d.evaluate_rows = 64;
  d.seed = 1;
  d.price = 1;
  command.add_option("--rounds", d.rounds, "Rounds of training")->required();
  command.add_option("--units", d.units_per_round, "Units of a round: how many rigs can work at once")
      ->capture_default_str();
  command.add_option("--lanes", d.lanes_per_unit, "Independent runs in a unit")->capture_default_str();
  command.add_option("--steps", d.steps, "Local steps of a lane; 1: plain gradients")->capture_default_str();
  command.add_option("--batch", d.batch, "Sequences of a step")->capture_default_str();
  command.add_option("--context", d.context, "Tokens of a sequence")->capture_default_str();
  command.add_option("--profile", d.profile, "Numeric profile: " + kernels::profile_names())->capture_default_str();
  command.add_option("--codec", d.codec, "How results travel: fp32, int4 or int8")->capture_default_str();
  command.add_option("--clip-norm", d.clip_norm, "Limit on a result's norm; 0: none")->capture_default_str();
  command.add_option("--evaluate-every", d.evaluate_every, "Rounds between evaluations")->capture_default_str();
  command.add_option("--evaluate-rows", d.evaluate_rows, "Sequences of an evaluation")->capture_default_str();
  command.add_option("--seed", d.seed, "Of initial weights and data order")->capture_default_str();
  command.add_option("--price", d.price, "Micro-credits per 10^9 floating-point operations")->capture_default_str();
}

void add_optimiser_options(CLI::App& command, CreateArguments& arguments) {
  arguments.inner.lr = 1e-3;
  command.add_option("--inner-lr", arguments.inner.lr, "Local AdamW's learning rate")->capture_default_str();
  command.add_option("--beta1", arguments.inner.beta1)->capture_default_str();
  command.add_option("--beta2", arguments.inner.beta2)->capture_default_str();
  command.add_option("--weight-decay", arguments.inner.weight_decay)->capture_default_str();
  command.add_option("--max-grad-norm", arguments.inner.max_grad_norm, "Local gradient clipping; 0: none")
      ->capture_default_str();
  command.add_option("--warmup", arguments.inner.warmup_steps, "Local steps until the full rate")
      ->capture_default_str();
  protocol::OuterSettings& outer = arguments.request.description.outer;
  outer.name = "nesterov";
  outer.momentum = 0.6;
  command.add_option("--outer", outer.name, "nesterov, or adamw (with --steps 1)")->capture_default_str();
  command.add_option("--outer-lr", arguments.outer_lr, "Outer learning rate (default 0.7; adamw 0.001)");
  command.add_option("--momentum", outer.momentum, "Of nesterov")->capture_default_str();
  command.add_option("--outer-beta1", outer.beta1, "Of adamw")->capture_default_str();
  command.add_option("--outer-beta2", outer.beta2, "Of adamw")->capture_default_str();
  command.add_option("--outer-weight-decay", outer.weight_decay, "Of adamw")->capture_default_str();
  command.add_option("--outer-warmup", outer.warmup_rounds, "Rounds until the full rate")->capture_default_str();
}

}  // namespace

void add_job_create_command(CLI::App& job, const GlobalOptions& options) {
  const auto arguments = std::make_shared<CreateArguments>();
  CLI::App* command = job.add_subcommand("create", "Make a job and fund it");
  command->add_option("NAME", arguments->request.description.job)->required();
  command->add_option("--dataset", arguments->request.dataset)->required();
  CLI::Option_group* source = command->add_option_group("model");
  source->add_option("--config", arguments->config,
                     "config.json of a GPT-2 or LLaMA; initial weights come from the seed");
  source->add_option("--model", arguments->model, "Hugging Face folder to go on from");
  source->require_option(1);
  add_plan_options(*command, arguments->request.description);
  add_optimiser_options(*command, *arguments);
  command->add_option("--check-share", arguments->check_share, "Share of units that another account repeats")
      ->capture_default_str();
  command->add_option("--budget", arguments->request.budget, "Micro-credits (default: the estimated cost with checks)");
  command->add_flag("--dry-run", arguments->dry_run, "Only check and estimate");
  command->add_flag("--json", arguments->json);
  command->callback([&options, arguments] { create(options, *arguments); });
}

}  // namespace pool
