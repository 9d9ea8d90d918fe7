// config.json of LlamaForCausalLM. Keys that would change the mathematics are checked; the others are ignored, among
// them: initializer_range, use_cache, architectures, torch_dtype, *_token_id.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "files/config_reader.h"
#include "files/families.h"
#include "files/json_file.h"

namespace kernels {

using nlohmann::json;

namespace {

constexpr double largest_theta = 1e12, largest_factor = 1e6;

// What transformers computes in fp32 where rope_theta is one, with the power correctly rounded almost always.
std::vector<float> computed_frequencies(double theta, double factor, size_t head_size) {
  std::vector<float> frequencies;
  for (size_t i = 0; i < head_size / 2; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_size);
    const auto power = static_cast<float>(std::pow(theta, static_cast<double>(exponent)));
    frequencies.push_back((1.0f / power) / static_cast<float>(factor));
  }
  return frequencies;
}

// The members of an object of the configuration under their whole names, as messages have them. Empty: there is none.
json members_of(const json& config, const std::string& key) {
  json members = json::object();
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return members;
  if (!found->is_object()) refuse(key, shown(*found), "null or an object");
  if (found->empty()) refuse(key, shown(*found), "null or an object with rope_type");
  for (const auto& [name, value] : found->items()) {
    std::string whole_name = key;
    whole_name.append(".").append(name);
    if (value.is_object()) refuse(whole_name, shown(value), "the same settings for all layers");
    members[whole_name] = value;
  }
  return members;
}

// The factor of linear scaling, 1 for none. "type" is the older spelling; where both are there they say the same.
double linear_factor(const json& config, const std::string& key) {
  const json members = members_of(config, key);
  const std::string older = key + ".type", newer = key + ".rope_type", factor = key + ".factor";
  require_text(members, older.c_str(), {"default", "linear"});
  require_text(members, newer.c_str(), {"default", "linear"});
  require_number(members, (key + ".partial_rotary_factor").c_str(), 1);
  const bool typed = members.contains(older) || members.contains(newer);
  if (!typed && (members.contains(factor) || (key == "rope_scaling" && !members.empty())))
    refuse(newer, "(missing)", "\"default\" or \"linear\"");
  if (!typed) return 1;
  const std::string type = members.value(newer, members.value(older, ""));
  if (members.value(older, type) != type) refuse(older, shown(members.at(older)), "what " + newer + " says");
  if (type != "linear") return 1;
  if (!members.contains(factor)) refuse(factor, "(missing)", "a number of at least 1");
  return read_number(members, factor.c_str(), 1, largest_factor, 1);
}

// transformers 5 writes rope_parameters instead of rope_theta and rope_scaling.
void read_rope(const json& config, ModelConfig& model) {
  const bool newer = config.contains("rope_parameters") && !config.at("rope_parameters").is_null();
  model.rope_linear_factor = linear_factor(config, newer ? "rope_parameters" : "rope_scaling");
  const bool both = newer && config.contains("rope_scaling") && !config.at("rope_scaling").is_null();
  if (both && linear_factor(config, "rope_scaling") != model.rope_linear_factor)
    refuse("rope_scaling", shown(config.at("rope_scaling")), "what rope_parameters says, or null");
  const json parameters = members_of(config, "rope_parameters");
  const bool inside = parameters.contains("rope_parameters.rope_theta");
  model.rope_theta = read_number(inside ? parameters : config, inside ? "rope_parameters.rope_theta" : "rope_theta", 1,
                                 largest_theta, 10000);
  require_number(config, "partial_rotary_factor", 1);
}

// The given ones must belong to rope_theta and its scaling: transformers, which loads the exported model, knows only
// those. Two machines' pow differ by less than the tolerance by far.
std::vector<float> given_frequencies(const json& given, const std::vector<float>& computed) {
  constexpr const char* key = "rope_inverse_frequencies";
  constexpr double tolerance = 1e-5;
  const std::string supported = std::to_string(computed.size()) + " numbers (half a head), each exactly an fp32";
  if (!given.is_array() || given.size() != computed.size()) refuse(key, shown(given), supported);
  std::vector<float> frequencies;
  for (const json& number : given) {
    const double value = number.is_number() ? number.get<double>() : NAN;
    if (!(value >= 0 && value <= 1) || static_cast<double>(static_cast<float>(value)) != value)
      refuse(key, shown(number), supported);
    const double expected = static_cast<double>(computed[frequencies.size()]);
    if (std::fabs(value - expected) > tolerance * expected)
      refuse(key, shown(number),
             shown(expected) + " there, by rope_theta and rope_scaling (without the key it is computed)");
    frequencies.push_back(static_cast<float>(value));
  }
  return frequencies;
}

void check_supported(const json& config) {
  require_text(config, "hidden_act", {"silu"});
  require_flag(config, "attention_bias", false);
  require_flag(config, "mlp_bias", false);
  require_number(config, "attention_dropout", 0);
  require_number(config, "pretraining_tp", 1);
}

}  // namespace

ModelConfig parse_llama_config(const json& config) {
  check_supported(config);
  ModelConfig model;
  model.family = Family::llama;
  model.layers = read_size(config, "num_hidden_layers");
  model.heads = read_size(config, "num_attention_heads");
  model.kv_heads = read_size(config, "num_key_value_heads", model.heads);
  model.channels = read_size(config, "hidden_size");
  model.inner = read_size(config, "intermediate_size");
  model.positions = read_size(config, "max_position_embeddings");
  model.vocabulary = read_size(config, "vocab_size");
  model.norm_epsilon = read_epsilon(config, "rms_norm_eps", 1e-6f);
  model.tied_head = read_flag(config, "tie_word_embeddings", false);
  read_rope(config, model);

  // Bounded, because parameters_of judges the sizes only below.
  const size_t head_size = std::min<size_t>(model.channels / std::max<size_t>(model.heads, 1), 1 << 16);
  model.rope_inverse_frequencies = computed_frequencies(model.rope_theta, model.rope_linear_factor, head_size);
  parameters_of(model);  // refuses impossible shapes
  if (read_size(config, "head_dim", head_size) != head_size)
    refuse("head_dim", shown(config.at("head_dim")),
           "hidden_size / num_attention_heads = " + std::to_string(head_size));
  if (const auto given = config.find("rope_inverse_frequencies"); given != config.end())
    model.rope_inverse_frequencies = given_frequencies(*given, model.rope_inverse_frequencies);
  return model;
}

json llama_to_json(const ModelConfig& model) {
  json scaling;  // null
  if (model.rope_linear_factor != 1) scaling = {{"type", "linear"}, {"factor", model.rope_linear_factor}};
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"num_hidden_layers", model.layers},
          {"num_attention_heads", model.heads},
          {"num_key_value_heads", model.kv_heads},
          {"hidden_size", model.channels},
          {"intermediate_size", model.inner},
          {"max_position_embeddings", model.positions},
          {"vocab_size", model.vocabulary},
          {"hidden_act", "silu"},
          {"rms_norm_eps", shortest(model.norm_epsilon)},
          {"tie_word_embeddings", model.tied_head},
          {"attention_bias", false},
          {"attention_dropout", 0.0},
          {"mlp_bias", false},
          {"rope_theta", model.rope_theta},
          {"rope_scaling", scaling},
          {"rope_inverse_frequencies", model.rope_inverse_frequencies},
          {"bos_token_id", nullptr},
          {"eos_token_id", nullptr},
          {"torch_dtype", "float32"}};
}

}  // namespace kernels
