#include "bench/fast_check.h"

#include <cmath>
#include <cstring>

#include "kernels/training.h"

namespace kernels::bench {
namespace {

constexpr size_t check_context = 70;  // more than a tile

std::vector<float> gradient_in(Profile profile, const ModelConfig& config, Ops& ops) {
  std::vector<float> weights(parameter_count(config)), gradient(weights.size());
  initialise_weights(config, 1, weights.data());
  std::vector<uint16_t> tokens(check_context + 1);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<uint16_t>(i * 7919 % config.vocabulary);
  Trainer trainer(config, 1, check_context, ops, {Trainer::Purpose::gradient, false, profile});
  trainer.gradient(weights, {1, check_context, tokens}, gradient);
  return gradient;
}

double distance(const std::vector<float>& x, const std::vector<float>& of) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    difference += std::pow(static_cast<double>(x[i]) - static_cast<double>(of[i]), 2);
    norm += std::pow(static_cast<double>(of[i]), 2);
  }
  return std::sqrt(difference / norm);
}

FastCheck check(const std::string& model, const ModelConfig& config, Ops& ops) {
  const std::vector<float> exact = gradient_in(Profile::exact_fp32, config, ops);
  const std::vector<float> first = gradient_in(Profile::fast, config, ops);
  const std::vector<float> second = gradient_in(Profile::fast, config, ops);
  FastCheck found{.model = model, .distance = distance(first, exact)};
  found.repeats = std::memcmp(first.data(), second.data(), first.size() * sizeof(float)) == 0;
  // Eight times the largest error of rounding an operand; tests/cuda/fast_model_test.cpp holds the executor to the
  // same.
  const double nearest = 8 * (ops.half_precision() == HalfPrecision::bf16 ? 0x1p-9 : 0x1p-12);
  found.right = found.repeats && found.distance > 0 && found.distance < nearest;
  return found;
}

}  // namespace

std::vector<FastCheck> check_fast(Ops& ops) {
  const ModelConfig gpt2{.layers = 1,
                         .heads = 1,
                         .channels = 64,
                         .positions = check_context,
                         .vocabulary = 101,
                         .inner = 256,
                         .norm_epsilon = 1e-5f};
  ModelConfig llama{.layers = 1,
                    .heads = 1,
                    .channels = 80,
                    .positions = check_context,
                    .vocabulary = 101,
                    .inner = 200,
                    .norm_epsilon = 1e-5f,
                    .family = Family::llama,
                    .kv_heads = 1};
  for (size_t pair = 0; pair < llama.head_size() / 2; ++pair)
    llama.rope_inverse_frequencies.push_back(1 / static_cast<float>(1 + pair));
  return {check("GPT-2, heads of 64", gpt2, ops), check("LLaMA, heads of 80", llama, ops)};
}

}  // namespace kernels::bench
