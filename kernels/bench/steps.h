// Whole training steps (forward, backward, AdamW) for the benchmarks.
#pragma once

#include <CLI/CLI.hpp>
#include <cmath>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "bench/measure.h"
#include "kernels/huge_pages.h"
#include "kernels/profile.h"
#include "kernels/training.h"

namespace kernels::bench {

// A GPT-2, or, with key heads, a LLaMA whose head is not tied to the embedding.
struct Shape {
  size_t layers = 12, heads = 12, channels = 768, vocabulary = 50257, batch = 2, context = 256;
  size_t kv_heads = 0;
  size_t inner = 0;        // 0: 4 times the channels
  size_t micro_batch = 0;  // blocks of tokens at once; 0: as an agent would on this memory
  Profile profile = Profile::exact_fp32;
};

inline ModelConfig config_of(const Shape& shape) {
  ModelConfig config{.layers = shape.layers,
                     .heads = shape.heads,
                     .channels = shape.channels,
                     .positions = shape.context,
                     .vocabulary = shape.vocabulary,
                     .inner = shape.inner > 0 ? shape.inner : 4 * shape.channels};
  if (shape.kv_heads == 0) return config;
  config.family = Family::llama, config.kv_heads = shape.kv_heads, config.tied_head = false;
  const size_t pairs = config.head_size() / 2;
  for (size_t pair = 0; pair < pairs; ++pair) {
    const double exponent = -static_cast<double>(pair) / static_cast<double>(pairs);
    config.rope_inverse_frequencies.push_back(static_cast<float>(std::pow(config.rope_theta, exponent)));
  }
  return config;
}

inline void add_shape_options(CLI::App& app, Shape& shape) {
  app.add_option("--layers", shape.layers);
  app.add_option("--heads", shape.heads);
  app.add_option("--channels", shape.channels);
  app.add_option("--vocabulary", shape.vocabulary);
  app.add_option("--batch", shape.batch);
  app.add_option("--context", shape.context);
  app.add_option("--kv-heads", shape.kv_heads, "of a LLaMA; without it, a GPT-2");
  app.add_option("--inner", shape.inner, "width of the MLP (default: 4 times the channels)");
  app.add_option("--micro-batch", shape.micro_batch, "blocks of tokens at once (default: as an agent would)");
  app.add_option_function<std::string>(
      "--profile",
      [&shape](const std::string& name) {
        const std::vector<Profile>& known = profiles_of_cards();
        const std::optional<Profile> profile = profile_named(name, known);
        if (!profile) throw CLI::ValidationError("--profile", name + " is unknown; supported: " + profile_names(known));
        shape.profile = *profile;
      },
      profile_names(profiles_of_cards()));
}

class Steps {
 public:
  Steps(const Shape& shape, Ops& ops)
      : config_(config_of(shape)),
        batch_(shape.batch),
        context_(shape.context),
        trainer_(config_, shape.batch, shape.context, ops, settings_of(shape, ops)),
        tokens_(shape.batch * (shape.context + 1)) {
    resize_in_huge_pages(weights_, parameter_count(config_));
    resize_in_huge_pages(difference_, parameter_count(config_));
    initialise_weights(config_, 1, weights_.data());
    for (size_t i = 0; i < tokens_.size(); ++i) tokens_[i] = static_cast<uint16_t>(i * 7919 % shape.vocabulary);
  }

  // Seconds of `count` steps after `before` others. on_start is called between them.
  double run(
      size_t before, size_t count, const std::function<void()>& on_start = [] {}) {
    double start = 0, end = 0;
    const auto next_batch = [&](size_t step) {
      if (step == before) on_start(), start = now();
      if (step == before + count) end = now();
      return TokenBatch{batch_, context_, tokens_};
    };
    const LocalAdamW adamw{.beta1 = 0.9f,
                           .one_minus_beta1 = 0.1f,
                           .beta2 = 0.95f,
                           .one_minus_beta2 = 0.05f,
                           .epsilon = 1e-8f,
                           .max_grad_norm = 0,
                           .steps = std::vector<AdamWStep>(before + count + 1, {0.9999f, 1e-4f, 1})};
    try {  // the step after the last one is not computed
      trainer_.local_steps(weights_, adamw, next_batch, difference_, [&] { return end != 0; });
    } catch (const Cancelled&) {
    }
    return end - start;
  }

  size_t tokens() const { return batch_ * context_; }
  double flops() const { return static_cast<double>(tokens()) * training_flops_per_token(config_, context_); }

 private:
  Trainer::Settings settings_of(const Shape& shape, Ops& ops) const {
    Trainer::Settings settings(Trainer::Purpose::local_steps, false, shape.profile);
    settings.micro_batch = shape.micro_batch;
    if (shape.micro_batch > 0) return settings;
    return Trainer::settings_within(ops.free_bytes(), config_, shape.batch, shape.context, ops, settings);
  }

  const ModelConfig config_;
  const size_t batch_, context_;
  Trainer trainer_;
  std::vector<float> weights_, difference_;
  std::vector<uint16_t> tokens_;
};

// The seconds of as many steps as each line of the input asks for.
inline void answer_lines(const Shape& shape, Ops& ops) {
  Steps steps(shape, ops);
  for (size_t wanted; std::cin >> wanted;) std::cout << steps.run(1, wanted) << std::endl;
}

}  // namespace kernels::bench
