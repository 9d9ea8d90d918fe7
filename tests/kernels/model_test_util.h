// What the tests of the model share: shapes, seeded data, and every engine of this machine.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "engine.h"
#include "kernels/model_config.h"
#include "kernels/ops.h"
#include "kernels/training.h"

namespace kernels::test {

struct Case {
  const char* name;
  ModelConfig config;
  size_t batch, context;
};
inline void PrintTo(const Case& shape, std::ostream* out) { *out << shape.name; }

struct LlamaShape {
  size_t layers, heads, kv_heads, channels, positions, vocabulary, inner;
  bool tied_head = false;
};

// The frequencies are a geometric series of correctly rounded products, so the same everywhere.
inline ModelConfig llama(const LlamaShape& shape) {
  ModelConfig config{.layers = shape.layers,
                     .heads = shape.heads,
                     .channels = shape.channels,
                     .positions = shape.positions,
                     .vocabulary = shape.vocabulary,
                     .inner = shape.inner,
                     .norm_epsilon = 1e-6f,
                     .family = Family::llama,
                     .kv_heads = shape.kv_heads,
                     .tied_head = shape.tied_head};
  float frequency = 1;
  for (size_t j = 0; j < config.head_size() / 2; ++j, frequency *= 0.7f)
    config.rope_inverse_frequencies.push_back(frequency);
  return config;
}

// Initial weights moved off their symmetries: no zero bias, no norm weight of 1.
inline std::vector<float> some_weights(const ModelConfig& config, uint64_t seed) {
  std::vector<float> weights(parameter_count(config));
  initialise_weights(config, seed, weights.data());
  std::mt19937_64 random(seed);
  for (float& w : weights) w += static_cast<float>(static_cast<int32_t>(random() % 65536) - 32768) * 0x1p-18f;
  return weights;
}

// batch rows of context + 1 tokens.
inline std::vector<uint16_t> some_tokens(const ModelConfig& config, size_t batch, size_t context, uint64_t seed) {
  std::vector<uint16_t> tokens(batch * (context + 1));
  std::mt19937_64 random(seed);
  for (uint16_t& token : tokens) token = static_cast<uint16_t>(random() % config.vocabulary);
  return tokens;
}

// Learning rate 1e-3, weight decay 0.1. Evaluated with correctly rounded operations only, so the same everywhere.
inline LocalAdamW some_adamw(size_t steps, float max_grad_norm) {
  const double beta1 = 0.9, beta2 = 0.95, rate = 1e-3;
  LocalAdamW adamw{static_cast<float>(beta1),
                   static_cast<float>(1 - beta1),
                   static_cast<float>(beta2),
                   static_cast<float>(1 - beta2),
                   1e-8f,
                   max_grad_norm,
                   {}};
  double power1 = 1, power2 = 1;
  for (size_t step = 0; step < steps; ++step) {
    power1 *= beta1;
    power2 *= beta2;
    adamw.steps.push_back({static_cast<float>(1 - rate * 0.1), static_cast<float>(rate / (1 - power1)),
                           static_cast<float>(1 / std::sqrt(1 - power2))});
  }
  return adamw;
}

// The fast engine on every SIMD path of this machine, with 1, 2 and 7 threads.
inline std::vector<Engine> fast_engines() {
  std::vector<Engine> engines;
  for (size_t threads : {1, 2, 7}) {
    for (const Simd simd : usable_simd()) {
      engines.push_back(
          {name_of(simd) + " with " + std::to_string(threads) + " threads", make_cpu_ops(threads, simd)});
    }
  }
  return engines;
}

}  // namespace kernels::test
