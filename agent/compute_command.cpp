#include "compute_command.h"

#include <chrono>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "cards.h"
#include "engine.h"
#include "exit.h"
#include "kernels/files.h"
#include "kernels/huge_pages.h"
#include "kernels/training.h"
#include "model_folder.h"
#include "progress.h"
#include "protocol/digest.h"
#include "system_info.h"

namespace agent {
namespace {

// Program, libraries, stacks and the heap's own needs.
constexpr uint64_t process_bytes = 15'000'000;

void check_options(const ComputeOptions& options) {
  const std::vector<kernels::Profile>& known = kernels::profiles_of_cards();
  if (!kernels::profile_named(options.profile, known)) {
    throw Failure(Exit::usage,
                  "--profile " + options.profile + " is unknown; supported: " + kernels::profile_names(known));
  }
  if (options.batch == 0) throw Failure(Exit::usage, "--batch 0: a batch has at least 1 row");
  if (options.context == 0) throw Failure(Exit::usage, "--context 0: a row has at least 1 token");
}

kernels::Profile profile_for(const ComputeOptions& options, const kernels::Ops& ops) {
  const kernels::Profile profile = kernels::profile_named(options.profile, kernels::profiles_of_cards()).value();
  if (profile == kernels::Profile::fast && ops.half_precision() == kernels::HalfPrecision::none) {
    throw Failure(Exit::input,
                  "--profile fast needs a card with tensor cores, of compute capability 7.5 or later "
                  "(--device cuda); " +
                      options.device + " has none");
  }
  return profile;
}

// The file's first batch * context + 1 tokens, every one inside the vocabulary.
std::vector<uint16_t> read_tokens(const ComputeOptions& options, const kernels::ModelConfig& config) {
  const std::string name = options.tokens.string();
  std::error_code error;
  uint64_t bytes = std::filesystem::file_size(options.tokens, error);
  if (error) throw Failure(Exit::input, "cannot read tokens from " + name + ": " + error.message());
  if (bytes % 2 != 0) {
    throw Failure(Exit::input, name + " has an odd number of bytes (" + std::to_string(bytes) +
                                   "); tokens are uint16, little-endian, without a header");
  }
  uint64_t found = bytes / 2;
  // Compared by division: batch * context may not fit.
  if (found == 0 || options.batch > (found - 1) / options.context) {
    throw Failure(
        Exit::input,
        name + " has " + std::to_string(found) + " tokens; --batch " + std::to_string(options.batch) + " --context " +
            std::to_string(options.context) + " needs batch * context + 1" +
            (options.batch < UINT64_MAX / options.context ? " = " + std::to_string(options.batch * options.context + 1)
                                                          : std::string()));
  }
  std::vector<uint16_t> tokens(options.batch * options.context + 1);
  std::ifstream in(options.tokens, std::ios::binary);
  in.read(reinterpret_cast<char*>(tokens.data()), static_cast<std::streamsize>(tokens.size() * 2));
  if (!in) throw Failure(Exit::input, "cannot read tokens from " + name);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < config.vocabulary) continue;
    throw Failure(Exit::input, name + ": token number " + std::to_string(i) + " (byte " + std::to_string(2 * i) +
                                   ") is " + std::to_string(tokens[i]) + ", but the model's vocabulary has " +
                                   std::to_string(config.vocabulary) + " tokens");
  }
  return tokens;
}

// Row b: tokens b * context … b * context + context, the last one shared with the next row.
std::vector<uint16_t> rows_of(const std::vector<uint16_t>& tokens, size_t batch, size_t context) {
  std::vector<uint16_t> rows;
  rows.reserve(batch * (context + 1));
  for (size_t b = 0; b < batch; ++b) {
    auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(b * context);
    rows.insert(rows.end(), begin, begin + static_cast<std::ptrdiff_t>(context + 1));
  }
  return rows;
}

struct Plan {
  kernels::Trainer::Settings settings;
  uint64_t bytes;  // of the whole process, or of the card
};

OpenedCard open_engine(const ComputeOptions& options) {
  if (options.device == "cpu") return {make_engine(options.threads), ""};
  return open_cuda_device(options.device);
}

// The fastest plan within the limit. Throws Failure where even the leanest does not fit.
Plan plan_within_limit(const ComputeOptions& options, const kernels::ModelConfig& config, const OpenedCard& engine) {
  kernels::Ops& ops = *engine.ops;
  const bool on_host = ops.in_host_memory();
  const uint64_t limit = options.memory_limit > 0 ? options.memory_limit
                         : on_host                ? memory_available()
                                                  : plannable_bytes(ops);
  const uint64_t besides = on_host ? process_bytes + 2 * kernels::parameter_count(config) * sizeof(float) +
                                         2 * options.batch * (options.context + 1) * sizeof(uint16_t)
                                   : 0;
  const kernels::Trainer::Settings settings =
      kernels::Trainer::settings_within(limit > besides ? limit - besides : 0, config, options.batch, options.context,
                                        ops, {kernels::Trainer::Purpose::gradient, false, profile_for(options, ops)});
  const uint64_t needed =
      besides + kernels::Trainer::planned_bytes(config, options.batch, options.context, ops, settings);
  if (needed <= limit) return {settings, needed};
  throw Failure(Exit::input, "this gradient needs " + human_bytes(static_cast<double>(needed)) + " of " +
                                 (on_host ? "memory" : engine.bus_id + "'s memory") + " and " +
                                 human_bytes(static_cast<double>(limit)) +
                                 (options.memory_limit > 0 ? " are allowed (--memory-limit)" : " are available") +
                                 "; a shorter --context" + (on_host ? " or fewer --threads need" : " needs") + " less");
}

// Throws Failure also where the profile does not take the model.
Plan plan_or_refuse(const ComputeOptions& options, const kernels::ModelConfig& config, const OpenedCard& engine) {
  try {
    return plan_within_limit(options, config, engine);
  } catch (const std::invalid_argument& error) {
    throw Failure(Exit::input, error.what());
  }
}

// As `run` says it at the start.
void tell_missing_cublaslt() {
  const LibraryState cublaslt = ask_cublaslt();
  if (!cublaslt.problem.empty()) std::fprintf(stderr, "gradminer: %s\n", cublaslt.problem.c_str());
}

std::string hex_float(float value) {
  char text[32];
  std::snprintf(text, sizeof text, "%a", static_cast<double>(value));
  return text;
}

}  // namespace

void compute_command(const ComputeOptions& options) {
  check_options(options);
  if (!options.gradients.empty()) check_gradients_file(options.gradients);
  const ModelFolder model = open_model_folder(options.model);
  if (options.context > model.config.positions) {
    throw Failure(Exit::input, "--context " + std::to_string(options.context) + " is beyond the model's " +
                                   model.config.positions_key() + " (" + std::to_string(model.config.positions) + ")");
  }
  const std::vector<uint16_t> tokens = read_tokens(options, model.config);
  const std::vector<uint16_t> rows = rows_of(tokens, options.batch, options.context);
  const size_t parameters = kernels::parameter_count(model.config);

  const OpenedCard engine = open_engine(options);
  const std::unique_ptr<kernels::Ops>& ops = engine.ops;
  Plan plan = plan_or_refuse(options, model.config, engine);
  if (plan.settings.profile == kernels::Profile::fast) tell_missing_cublaslt();
  const std::vector<float> weights = read_model_weights(model);
  std::vector<float> gradients;
  kernels::resize_in_huge_pages(gradients, parameters);
  const auto trainer = make_trainer(model.config, options.batch, options.context, *ops, plan.settings);

  const double token_count = static_cast<double>(options.batch * options.context);
  const double flops = token_count * kernels::training_flops_per_token(model.config, options.context);
  const double estimated_seconds = flops / measure_flops(*ops);
  float loss = 0;
  const auto begin = std::chrono::steady_clock::now();
  {
    Progress progress("computing");
    loss = trainer->gradient(weights, {options.batch, options.context, rows}, gradients, {}, [&] {
      progress.show_elapsed(estimated_seconds);
      return false;
    });
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();

  protocol::Sha256 hash;  // of the very file that --gradients writes
  hash.update(kernels::safetensors_header(model.config));
  hash.update({reinterpret_cast<const uint8_t*>(gradients.data()), gradients.size() * sizeof(float)});
  const std::string digest = protocol::to_hex(hash.finish());
  if (!options.gradients.empty()) write_gradients(options.gradients, model.config, gradients);

  if (options.json) {
    nlohmann::ordered_json answer{{"loss", loss},
                                  {"loss_hex", hex_float(loss)},
                                  {"digest", digest},
                                  {"seconds", seconds},
                                  {"tokens_per_second", token_count / seconds},
                                  {"planned_bytes", plan.bytes}};
    std::printf("%s\n", answer.dump().c_str());
    return;
  }
  std::printf("loss      %.9g (%s)\n", static_cast<double>(loss), hex_float(loss).c_str());
  const bool exact = plan.settings.profile != kernels::Profile::fast;
  std::printf("digest    %s%s\n", digest.c_str(), exact ? "" : " (another model of card gives another)");
  std::printf("seconds   %.3f\n", seconds);
  std::printf("tokens/s  %.0f\n", token_count / seconds);
  const size_t blocks = plan.settings.micro_batch;
  std::printf("memory    %s planned%s%s%s\n", human_bytes(static_cast<double>(plan.bytes)).c_str(),
              ops->in_host_memory() ? "" : " on the card",
              blocks > 1 ? (", " + std::to_string(blocks) + " blocks at once").c_str() : "",
              plan.settings.recompute ? ", activations computed twice" : "");
  if (!options.gradients.empty()) std::printf("gradients %s\n", options.gradients.c_str());
}

}  // namespace agent
