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

// Hugging Face's names of the fields.
struct Names {
  const char *layers, *heads, *channels, *positions, *inner, *epsilon;
};

const Names& names_of(Family family) {
  static constexpr Names gpt2{"n_layer", "n_head", "n_embd", "n_positions", "n_inner", "layer_norm_epsilon"};
  static constexpr Names llama{"num_hidden_layers",       "num_attention_heads", "hidden_size",
                               "max_position_embeddings", "intermediate_size",   "rms_norm_eps"};
  return family == Family::llama ? llama : gpt2;
}

void require_multiple(const char* name, size_t value, const char* divisor_name, size_t divisor) {
  require(value % divisor == 0, std::string(name) + " = " + std::to_string(value) + " is not a multiple of " +
                                    divisor_name + " = " + std::to_string(divisor));
}

void validate_llama(const ModelConfig& config) {
  require_size("num_key_value_heads", config.kv_heads, 4096);
  require_multiple("num_attention_heads", config.heads, "num_key_value_heads", config.kv_heads);
  require(config.head_size() % 2 == 0,
          "hidden_size / num_attention_heads = " + std::to_string(config.head_size()) + "; supported: even numbers");
  require(config.rope_inverse_frequencies.size() == config.head_size() / 2,
          std::to_string(config.rope_inverse_frequencies.size()) + " rope_inverse_frequencies; half a head has " +
              std::to_string(config.head_size() / 2));
  for (float frequency : config.rope_inverse_frequencies)
    require(std::isfinite(frequency) && frequency >= 0 && frequency <= 1,
            "rope_inverse_frequencies has " + std::to_string(frequency) + "; supported: 0 to 1");
}

void validate(const ModelConfig& config) {
  const Names& names = names_of(config.family);
  require_size(names.layers, config.layers, 4096);
  require_size(names.heads, config.heads, 4096);
  require_size(names.channels, config.channels, 1 << 16);
  require_size(names.positions, config.positions, 1 << 20);
  require_size("vocab_size", config.vocabulary, 1 << 16);
  require_size(names.inner, config.inner, 1 << 20);
  require_multiple(names.channels, config.channels, names.heads, config.heads);
  require(std::isfinite(config.norm_epsilon) && config.norm_epsilon > 0,
          std::string(names.epsilon) + " = " + std::to_string(config.norm_epsilon) + "; supported: positive numbers");
  if (config.family == Family::llama) validate_llama(config);
}

// Collects the tensors in order.
class ParameterList {
 public:
  void add(const std::string& name, std::vector<size_t> shape) {
    size_t count = 1;
    for (size_t extent : shape) count *= extent;
    const size_t offset = list.empty() ? 0 : list.back().offset + list.back().count;
    list.push_back({name, std::move(shape), offset, count});
  }

  std::vector<Parameter> list;
};

std::vector<Parameter> gpt2_parameters(const ModelConfig& config) {
  const size_t C = config.channels, F = config.inner;
  ParameterList p;
  p.add("transformer.wte.weight", {config.vocabulary, C});
  p.add("transformer.wpe.weight", {config.positions, C});
  for (size_t layer = 0; layer < config.layers; ++layer) {
    const std::string h = "transformer.h." + std::to_string(layer) + ".";
    p.add(h + "ln_1.weight", {C});
    p.add(h + "ln_1.bias", {C});
    p.add(h + "attn.c_attn.weight", {C, 3 * C});
    p.add(h + "attn.c_attn.bias", {3 * C});
    p.add(h + "attn.c_proj.weight", {C, C});
    p.add(h + "attn.c_proj.bias", {C});
    p.add(h + "ln_2.weight", {C});
    p.add(h + "ln_2.bias", {C});
    p.add(h + "mlp.c_fc.weight", {C, F});
    p.add(h + "mlp.c_fc.bias", {F});
    p.add(h + "mlp.c_proj.weight", {F, C});
    p.add(h + "mlp.c_proj.bias", {C});
  }
  p.add("transformer.ln_f.weight", {C});
  p.add("transformer.ln_f.bias", {C});
  return p.list;
}

std::vector<Parameter> llama_parameters(const ModelConfig& config) {
  const size_t C = config.channels, F = config.inner, keys = config.kv_heads * config.head_size();
  ParameterList p;
  p.add("model.embed_tokens.weight", {config.vocabulary, C});
  for (size_t layer = 0; layer < config.layers; ++layer) {
    const std::string h = "model.layers." + std::to_string(layer) + ".";
    p.add(h + "self_attn.q_proj.weight", {C, C});
    p.add(h + "self_attn.k_proj.weight", {keys, C});
    p.add(h + "self_attn.v_proj.weight", {keys, C});
    p.add(h + "self_attn.o_proj.weight", {C, C});
    p.add(h + "mlp.gate_proj.weight", {F, C});
    p.add(h + "mlp.up_proj.weight", {F, C});
    p.add(h + "mlp.down_proj.weight", {C, F});
    p.add(h + "input_layernorm.weight", {C});
    p.add(h + "post_attention_layernorm.weight", {C});
  }
  p.add("model.norm.weight", {C});
  if (!config.tied_head) p.add("lm_head.weight", {config.vocabulary, C});
  return p.list;
}

}  // namespace

std::vector<Parameter> parameters_of(const ModelConfig& config) {
  validate(config);
  return config.family == Family::llama ? llama_parameters(config) : gpt2_parameters(config);
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
