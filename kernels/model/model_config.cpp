#include "kernels/model_config.h"

#include <cmath>
#include <stdexcept>

namespace kernels {
namespace {

void require(bool ok, const std::string& message) {
  if (!ok) throw std::invalid_argument("model: " + message);
}

// The bounds keep every product of sizes far below 2^64.
void require_size(const char* name, size_t value, size_t most) {
  require(value >= 1 && value <= most,
          std::string(name) + " = " + std::to_string(value) + "; supported: 1 to " + std::to_string(most));
}

void validate(const ModelConfig& config) {
  require_size("n_layer", config.layers, 4096);
  require_size("n_head", config.heads, 4096);
  require_size("n_embd", config.channels, 1 << 16);
  require_size("n_positions", config.positions, 1 << 20);
  require_size("vocab_size", config.vocabulary, 1 << 16);
  require_size("n_inner", config.inner, 1 << 20);
  require(config.channels % config.heads == 0, "n_embd = " + std::to_string(config.channels) +
                                                   " is not a multiple of n_head = " + std::to_string(config.heads));
  require(std::isfinite(config.norm_epsilon) && config.norm_epsilon > 0,
          "layer_norm_epsilon = " + std::to_string(config.norm_epsilon) + "; supported: positive numbers");
}

}  // namespace

std::vector<Parameter> parameters_of(const ModelConfig& config) {
  validate(config);
  const size_t C = config.channels, F = config.inner;
  std::vector<Parameter> parameters;
  size_t offset = 0;
  auto add = [&](const std::string& name, std::vector<size_t> shape) {
    size_t count = 1;
    for (size_t extent : shape) count *= extent;
    parameters.push_back({name, std::move(shape), offset, count});
    offset += count;
  };
  add("transformer.wte.weight", {config.vocabulary, C});
  add("transformer.wpe.weight", {config.positions, C});
  for (size_t layer = 0; layer < config.layers; ++layer) {
    const std::string h = "transformer.h." + std::to_string(layer) + ".";
    add(h + "ln_1.weight", {C});
    add(h + "ln_1.bias", {C});
    add(h + "attn.c_attn.weight", {C, 3 * C});
    add(h + "attn.c_attn.bias", {3 * C});
    add(h + "attn.c_proj.weight", {C, C});
    add(h + "attn.c_proj.bias", {C});
    add(h + "ln_2.weight", {C});
    add(h + "ln_2.bias", {C});
    add(h + "mlp.c_fc.weight", {C, F});
    add(h + "mlp.c_fc.bias", {F});
    add(h + "mlp.c_proj.weight", {F, C});
    add(h + "mlp.c_proj.bias", {C});
  }
  add("transformer.ln_f.weight", {C});
  add("transformer.ln_f.bias", {C});
  return parameters;
}

size_t parameter_count(const ModelConfig& config) {
  const Parameter last = parameters_of(config).back();
  return last.offset + last.count;
}

double training_flops_per_token(const ModelConfig& config, size_t context) {
  const double contractions = 6.0 * static_cast<double>(parameter_count(config));
  const double attention =
      6.0 * static_cast<double>(config.layers) * static_cast<double>(context) * static_cast<double>(config.channels);
  return contractions + attention;
}

}  // namespace kernels
