#include "sample_command.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "engine.h"
#include "exit.h"
#include "kernels/training.h"
#include "model_folder.h"

namespace agent {
namespace {

uint16_t draw(const std::vector<float>& logits, double temperature, std::mt19937_64& random) {
  const auto likeliest = std::max_element(logits.begin(), logits.end());
  if (temperature == 0) return static_cast<uint16_t>(likeliest - logits.begin());
  std::vector<double> sums(logits.size());
  double sum = 0;
  for (size_t v = 0; v < logits.size(); ++v) {
    sums[v] = sum += std::exp((static_cast<double>(logits[v]) - static_cast<double>(*likeliest)) / temperature);
  }
  const double point = static_cast<double>(random() >> 11) * 0x1p-53 * sum;
  const auto found = std::upper_bound(sums.begin(), sums.end(), point);
  return static_cast<uint16_t>(std::min<size_t>(static_cast<size_t>(found - sums.begin()), logits.size() - 1));
}

std::vector<uint16_t> prompt_tokens(const SampleOptions& options, size_t vocabulary) {
  if (options.prompt.empty()) return {static_cast<uint16_t>(vocabulary > '\n' ? '\n' : 0)};
  if (vocabulary > 256) {
    throw Failure(Exit::usage, "--prompt works for vocabularies of bytes (at most 256 tokens); this model has " +
                                   std::to_string(vocabulary));
  }
  std::vector<uint16_t> tokens;
  for (unsigned char byte : options.prompt) {
    if (byte >= vocabulary) {
      throw Failure(Exit::input, "--prompt: byte " + std::to_string(byte) + " is outside the model's vocabulary of " +
                                     std::to_string(vocabulary));
    }
    tokens.push_back(byte);
  }
  return tokens;
}

void print(uint16_t token, bool bytes) {
  if (!bytes) {
    std::printf("%u ", token);
  } else {  // control characters could upset a terminal
    std::putchar(token == '\n' || token == '\t' || (token >= 0x20 && token != 0x7f) ? token : '?');
  }
  std::fflush(stdout);
}

}  // namespace

void sample_command(const SampleOptions& options) {
  if (!(options.temperature >= 0)) throw Failure(Exit::usage, "--temperature must be 0 or more");
  const ModelFolder model = open_model_folder(options.model);
  std::vector<uint16_t> tokens = prompt_tokens(options, model.config.vocabulary);
  const std::vector<float> weights = read_model_weights(model);
  auto ops = make_engine(options.threads);
  const size_t positions = model.config.positions;
  const size_t most_seen = std::min(positions, tokens.size() + std::min<size_t>(options.length, positions));
  kernels::Trainer trainer(model.config, 1, most_seen, *ops, kernels::Trainer::Purpose::evaluate);
  std::vector<float> logits(model.config.vocabulary);
  std::mt19937_64 random(options.seed);

  const bool bytes = model.config.vocabulary <= 256;
  if (!options.prompt.empty()) std::fputs(options.prompt.c_str(), stdout);
  for (uint64_t n = 0; n < options.length; ++n) {
    const size_t seen = std::min(tokens.size(), positions);
    trainer.logits(weights, std::span(tokens).last(seen), logits);
    if (!std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); })) {
      throw Failure(Exit::numeric, "the model's output is not finite; its weights are damaged");
    }
    tokens.push_back(draw(logits, options.temperature, random));
    print(tokens.back(), bytes);
  }
  std::putchar('\n');
}

}  // namespace agent
